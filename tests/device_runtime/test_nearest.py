"""What may have been meant by a name that nobody has: columns, signals, commands, options."""

import pytest
from click.testing import CliRunner

from device_runtime.cli import cli
from device_runtime.errors import InputError
from device_runtime.nearest import did_you_mean
from device_runtime.series.dialect import read_csv
from device_runtime.series.options import ReadOptions
from device_runtime.series.read import read

WIDE = "patient,hour,ABPMean,O2Sat,pressure\n7,1,70,97,1\n7,2,71,98,2\n"
EVENTS = "patient,charttime,vital,value\n7,2026-03-01 00:00,Heart Rate,70\n7,2026-03-01 01:00,Heart Rate,71\n"


@pytest.mark.parametrize(
    ("said", "meant"), [("presure", "pressure"), ("PRESSURE", "pressure"), ("Tempp", "temp"), ("xyz", ""), ("", "")]
)
def test_the_nearest_name_whatever_its_capitals(said: str, meant: str) -> None:
    assert did_you_mean(said, ["temp", "pressure", "pulse"]) == (f"did you mean {meant}? " if meant else "")


@pytest.mark.parametrize(
    ("text", "target", "options", "meant"),
    [
        (WIDE, "presure", {}, "pressure"),
        (WIDE, "SpO22", {}, "SpO2"),  # the vital sign, by whose name column O2Sat is found
        (WIDE, "HR", {"id_column": "patiant"}, "patient"),
        (WIDE, "HR", {"timestamp_column": "huor"}, "hour"),
        (EVENTS, "Hart Rate", {}, "Heart Rate"),
    ],
)
def test_columns_and_signals(text: str, target: str, options: dict[str, str], meant: str) -> None:
    with pytest.raises(InputError) as refused:
        read(read_csv(text.encode(), "ward.csv"), target, ReadOptions(**options))
    assert str(refused.value.hint).startswith(f"did you mean {meant}? ")


def test_another_vital_sign_is_no_slip() -> None:
    with pytest.raises(InputError) as refused:
        read(read_csv(b"patient,hour,SBP\n7,1,120\n7,2,121\n", "ward.csv"), "DBP", ReadOptions())
    assert "did you mean" not in str(refused.value.hint)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["forcast"], "No such command 'forcast': did you mean forecast?"),
        (["zzz"], "No such command 'zzz'"),
        (["forecast", "bundle", "--adaptor", "x"], "--adapter"),
    ],
)
def test_commands_and_options(words: list[str], says: str) -> None:
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert says in done.output
