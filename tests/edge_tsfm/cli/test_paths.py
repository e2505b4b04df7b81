"""Paths on the command line: what is missing is named with what was probably meant, before anything else is done."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from device_runtime.nearest import did_you_mean_path
from edge_tsfm.cli.paths import Bundle, Existing, NewFile
from edge_tsfm.data import read_dataset
from edge_tsfm.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ward.csv").write_text("x\n")
    (tmp_path / "data" / ".hidden-file").write_text("x\n")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("data/wrad.csv", "data/ward.csv"),
        ("data/WARD.CSV", "data/ward.csv"),
        ("dta/ward.csv", "data"),  # the first part that is not there
        ("data/.hidden-fiel", ""),  # editors and programs hide theirs
        ("data/entirely-else", ""),
        ("data/ward.csv/x", ""),  # below a file
        ("\0", ""),
        ("x" * 5_000, ""),
    ],
)
def test_the_nearest_path(folder: Path, said: str, meant: str) -> None:
    assert did_you_mean_path(said) == (f"did you mean {meant}?" if meant else "")
    assert did_you_mean_path(folder / "data" / "wrad.csv") == f"did you mean {folder / 'data' / 'ward.csv'}?"


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [
        (Existing(), "data/wrad.csv", "Path 'data/wrad.csv' does not exist: did you mean data/ward.csv?"),
        (Existing(), "nothing-like-it", "Path 'nothing-like-it' does not exist."),
        (Existing(dir_okay=False), "data", "File 'data' is a directory."),
        (Bundle(), "dat", "Directory 'dat' does not exist: did you mean data?"),
        (NewFile(), "dta/new.csv", "There is no folder 'dta' to write it in: did you mean data?"),
        (NewFile(), "nothing-like-it/new.csv", "There is no folder 'nothing-like-it' to write it in."),
        (NewFile(), "data", "File 'data' is a directory."),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_not_there_is_wrong_usage_with_a_suggestion(kind: click.Path, said: str, message: str) -> None:
    command = click.Command("read", params=[click.Argument(["place"], type=kind)], callback=lambda place: None)
    result = CliRunner().invoke(command, [said])
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.usefixtures("folder")
def test_what_is_there_is_taken() -> None:
    for kind, said in (
        (Existing(), "data/ward.csv"),
        (Bundle(), "data"),
        (NewFile(), "data/new.csv"),
        (NewFile(), "a"),
    ):
        assert kind.convert(said, None, None) == Path(said)
    assert Bundle().convert("my-hospital/map-icu", None, None) == "my-hospital/map-icu"


def test_data_that_are_not_there(folder: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        read_dataset(folder / "data" / "wrad.csv", target="HR")
    assert caught.value.hint == f"did you mean {folder / 'data' / 'ward.csv'}?"
