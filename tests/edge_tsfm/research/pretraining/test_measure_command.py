"""`edge-tsfm measure` with the wrong thing: an error in words, as of every command."""

import sys
from pathlib import Path

import pytest

from edge_tsfm.cli import main
from edge_tsfm.errors import DataError
from edge_tsfm.research.pretraining.measure import OTHERS, other_rows

BASE = Path(__file__).resolve().parents[3] / "dummy_bases" / "chronos-bolt"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["edge-tsfm", "measure", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def test_a_file_in_place_of_a_folder(measure, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    status, said = measure(BASE, tmp_path / "data.csv")
    assert (status, "data.csv" in said, "Traceback" in said) == (2, True, False)
    status, said = measure(tmp_path / "data.csv", tmp_path)
    assert (status, "data.csv" in said) == (2, True)


def test_a_folder_without_the_data(measure, tmp_path: Path) -> None:
    status, said = measure(BASE, tmp_path)
    assert (status, "physionet2019_hospital_a.parquet" in said) == (1, True)


def test_a_folder_that_is_no_base(measure, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": 5')
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    status, said = measure(tmp_path, tmp_path)
    assert status == 1
    assert said.startswith(f"edge-tsfm: error: cannot load base '{tmp_path}'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,OT\n1,2\n2,warm\n", "OT: want numbers, got 'warm' at line 3"),
        ("date\n1\n", "has 1 column, want the time"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_series_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    file, _ = OTHERS[0]
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=said) as refused:
        next(other_rows(None, tmp_path, 1, 48))
    assert str(tmp_path / file) in str(refused.value)
