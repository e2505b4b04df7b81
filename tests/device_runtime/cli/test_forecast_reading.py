"""The device's forecast reads a file as it was meant: the same forecast from every way to write one series."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device_runtime.cli.forecast import command
from device_runtime.errors import InputError

VALUES = [70 + (7 * step) % 13 for step in range(20)]
ROWS = [f"p1,2026-03-01 {step:02d}:00,{value}" for step, value in enumerate(VALUES)]
Forecast = Callable[..., Result]


@pytest.fixture
def forecast(dummy_bundle: Path, tmp_path: Path) -> Forecast:
    def run(head: str, rows: list[str], *options: str, encoding: str = "utf-8") -> Result:
        path = tmp_path / "ward.csv"
        path.write_bytes("\n".join([head, *rows, ""]).encode(encoding))
        return CliRunner().invoke(command, [str(dummy_bundle), "--input", str(path), "--target", "map", *options])

    return run


def good(result: Result) -> str:
    assert result.exception is None, result.exception
    return result.stdout


def test_one_forecast_from_every_way_to_write_a_series(forecast: Forecast) -> None:
    meant = good(forecast("Patient_ID,charttime,MAP", ROWS))
    assert meant.count("\np1,") == 16
    zeros = [row if step != 4 else row.rsplit(",", 1)[0] + ",0" for step, row in enumerate(ROWS)]
    ways = [
        ("Patient_ID,charttime,MAP", ROWS[::-1], "utf-8"),
        ("MRN;TIMESTAMP;Mean BP", [row.replace(",", ";") for row in ROWS], "utf-16"),
        ("pid\tds\tABPMean", [row.replace(",", "\t") for row in ROWS], "cp1252"),
        ("subject_id,charttime,itemid,valuenum,error", [row.replace(",2026", ",2026").rsplit(",", 1)[0]
         + f",220052,{VALUES[step]},0" for step, row in enumerate(ROWS)]
         + ["p1,2026-03-01 04:00,220045,111,0", "p1,2026-03-01 04:00,220052,250,1"], "utf-8"),
        ("id,epoch,map_mmHg", [f"p1,{1_772_323_200 + 3600 * step},{v}" for step, v in enumerate(VALUES)], "utf-8"),
    ]  # fmt: skip
    for head, rows, encoding in ways:
        assert good(forecast(head, rows, encoding=encoding)) == meant, head
    without = good(forecast("Patient_ID,charttime,MAP", [row for step, row in enumerate(ROWS) if step != 4]))
    assert good(forecast("Patient_ID,charttime,MAP", zeros)) == without
    assert without != meant
    two = [*ROWS, "p2,2026-03-01 00:00,70"]
    assert good(forecast("Patient_ID,charttime,MAP", two, "--where", "PATIENT_ID=p1")) == meant


def test_kilopascals_are_converted(forecast: Forecast) -> None:
    rows = [f"p1,2026-03-01 {step:02d}:00,{value / 7.500617:.9f}" for step, value in enumerate(VALUES)]
    meant = good(forecast("patient,charttime,MAP", ROWS)).splitlines()[1].split(",")[2:8]
    for head, options in (("patient,charttime,MAP (kPa)", ()), ("patient,charttime,MAP", ("--unit", "kPa"))):
        got = good(forecast(head, rows, *options)).splitlines()[1].split(",")[2:8]
        assert [float(value) for value in got] == pytest.approx([float(value) for value in meant], abs=0.011)


def test_rows_without_times_are_steps_and_that_is_said(forecast: Forecast) -> None:
    result = forecast("MAP", [str(value) for value in VALUES], "--interval", "1h")
    good(result)
    assert "no timestamp column: each row is the next step of its item" in result.stderr
    assert "every 1h" in result.stderr


@pytest.mark.parametrize(
    ("head", "rows", "options", "says", "hint"),
    [
        ("patient,charttime,MAP", ROWS, ["--id-column", "bed"], "no column 'bed'", "patient, charttime, MAP"),
        ("patient,charttime,MAP", ROWS, ["--interval", "60000"], "'60000' has no unit", "60000ms or 60000s"),
        ("patient,charttime,MAP", ROWS, ["--interval", "1M"], "no one length", "30d"),
        ("patient,charttime,MAP", ROWS[:9], [], "9 observed values", "--min-observed"),
        ("patient,charttime,MAP", [row + "0" for row in ROWS], [], "lie outside 14 to 330", "--unit"),
        ("x,charttime,MAP", [*ROWS, *(row.replace("p1", "p2")[:-2] + "99" for row in ROWS)], ["--duplicates", "error"],
         "of a time that has another value", "--id-column"),
    ],
)  # fmt: skip
def test_what_could_be_two_things_is_refused(
    forecast: Forecast, head: str, rows: list[str], options: list[str], says: str, hint: str
) -> None:
    result = forecast(head, rows, *options)
    assert isinstance(result.exception, InputError)
    assert says in str(result.exception)
    assert hint in (result.exception.hint or "")
    assert not result.stdout


def test_fewer_observed_values_may_be_asked_for(forecast: Forecast) -> None:
    assert good(forecast("patient,charttime,MAP", ROWS[:9], "--min-observed", "5"))
