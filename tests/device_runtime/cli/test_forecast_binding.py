"""The device's forecast holds an adapter against the file that it read: signal, unit, interval, lengths."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from device_runtime.cli.forecast import command
from device_runtime.errors import InputError, SignalMismatchError
from device_runtime.format.binding import Binding
from device_runtime.format.blob import decode, encode

BLOB = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt.etsa"
HOUR = 3_600_000_000
VALUES = [70 + (7 * step) % 13 for step in range(40)]
Forecast = Callable[..., Result]


def of(signal: str, **changes: Any) -> Binding:
    return replace(Binding.of(signal, interval_us=HOUR, context_length=24, prediction_length=4), **changes)


def table(head: str, values: list[Any] = VALUES, minutes: int = 60) -> str:
    times = [f"2026-03-{1 + step * minutes // 1440:02d} {step * minutes // 60 % 24:02d}:{step * minutes % 60:02d}"
             for step in range(len(values))]  # fmt: skip
    return "\n".join([head, *(f"p1,{time},{value}" for time, value in zip(times, values, strict=True)), ""])


@pytest.fixture
def forecast(dummy_bundle: Path, tmp_path: Path) -> Forecast:
    def run(binding: Binding | None, text: str, *options: str) -> Result:
        adapter = replace(decode(BLOB.read_bytes()), binding=binding)
        (tmp_path / "a.etsa").write_bytes(encode(adapter))
        (tmp_path / "ward.csv").write_text(text)
        asked = [str(dummy_bundle), "--adapter", str(tmp_path / "a.etsa"), "--input", str(tmp_path / "ward.csv")]
        return CliRunner().invoke(command, [*asked, *options])

    return run


def refused(result: Result) -> SignalMismatchError:
    assert isinstance(result.exception, SignalMismatchError), result.output
    assert result.exception.code == 330
    assert not result.stdout
    return result.exception


def rows(result: Result) -> list[dict[str, str]]:
    assert result.exception is None, result.exception
    return list(csv.DictReader(result.stdout.splitlines()))


def record(result: Result) -> dict[str, Any]:
    assert result.exception is None, result.exception
    (one,) = json.loads(result.stdout)
    return dict(one)


def test_an_adapter_forecasts_its_own_signal_in_its_own_lengths_and_says_it(forecast: Forecast) -> None:
    got = rows(forecast(of("MAP"), table("patient,charttime,ABPMean"), "--target", "map"))
    assert [row["step"] for row in got] == ["1", "2", "3", "4"]
    assert {row["signal"] for row in got} == {"MAP"}
    assert not {"unbound", "accepted_differences"} & set(got[0])
    said = record(forecast(of("MAP"), table("patient,charttime,ABPMean"), "--target", "map", "--json"))
    assert said["signal"] == "MAP"
    # The context is the latest 24 steps, as the adapter was trained: what lies before does not count.
    other = record(forecast(of("MAP"), table("patient,charttime,MAP", [99] * 16 + VALUES[16:]), "--target", "MAP",
                            "--json"))  # fmt: skip
    assert other["quantiles"] == said["quantiles"]


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_another_signal_is_refused_unless_accepted_and_then_said(forecast: Forecast, json_too: tuple[str]) -> None:
    asked = (of("HR"), table("patient,charttime,MAP"), "--target", "MAP", *json_too)
    error = refused(forecast(*asked))
    assert "signal MAP, want HR" in str(error)
    assert "--accept-difference signal" in (error.hint or "")
    # The units differ as well: each is accepted by its own name.
    result = forecast(*asked, "--accept-difference", "signal", "--accept-difference", "unit")
    said = record(result)["accepted_differences"] if json_too else rows(result)[0]["accepted_differences"].split()
    assert said == ["signal", "unit"]
    assert "used for another signal, unit, accepted by hand" in result.stderr


def test_another_interval_is_refused_unless_accepted(forecast: Forecast) -> None:
    asked = (of("MAP"), table("patient,charttime,MAP", minutes=1), "--target", "MAP")
    assert "interval 1min, want 1h" in str(refused(forecast(*asked)))
    assert rows(forecast(*asked, "--accept-difference", "interval"))[0]["accepted_differences"] == "interval"


@pytest.mark.parametrize("asked", ["--context-length=25", "--prediction-length=5"])
def test_more_steps_than_the_adapter_is_for_are_refused(forecast: Forecast, asked: str) -> None:
    error = refused(forecast(of("MAP"), table("patient,charttime,MAP"), "--target", "MAP", asked))
    assert "--accept-difference " + asked[2:].split("=", maxsplit=1)[0].replace("-", "_") in (error.hint or "")


def test_a_column_of_values_does_not_say_its_signal_and_counted_rows_not_their_step(forecast: Forecast) -> None:
    error = refused(forecast(of("MAP"), table("patient,charttime,value")))
    assert "--target MAP" in (error.hint or "")
    assert rows(forecast(of("MAP"), table("patient,charttime,value"), "--target", "MAP"))
    counted = "value\n" + "".join(f"{value}\n" for value in VALUES)
    error = refused(forecast(of("MAP"), counted, "--target", "MAP"))
    assert "--interval 1h" in (error.hint or "")
    assert rows(forecast(of("MAP"), counted, "--target", "MAP", "--interval", "1h"))


@pytest.mark.parametrize("targets", [("HR", "MAP"), ("MAP", "HR")])
def test_no_target_of_several_may_be_another_signal(forecast: Forecast, targets: tuple[str, str]) -> None:
    text = table("patient,charttime,MAP,HR", [f"{value},{value + 9}" for value in VALUES])
    assert "signal MAP, want HR" in str(
        refused(forecast(of("HR", unit=""), text, *(f"--target={target}" for target in targets)))
    )


def test_an_unbound_adapter_says_so(forecast: Forecast) -> None:
    result = forecast(None, table("patient,charttime,MAP"), "--target", "MAP")
    assert {row["unbound"] for row in rows(result)} == {"true"}
    assert "signal" not in rows(result)[0]
    assert "the adapter is unbound" in result.stderr
    said = record(forecast(None, table("patient,charttime,MAP"), "--target", "MAP", "--json"))
    assert (said["signal"], said["unbound"]) == (None, True)


def test_a_signal_that_no_table_has_brings_its_own_range_and_unit(forecast: Forecast) -> None:
    glucose = of("Glucose", unit="mg/dL", low=-5.0, high=90.0)
    clean = [*VALUES[:30], *[""] * 2, *VALUES[32:]]
    spoilt = [*VALUES[:30], 999, -40, *VALUES[32:]]
    meant = rows(forecast(glucose, table("patient,charttime,glucose", clean), "--target", "glucose"))
    assert rows(forecast(glucose, table("patient,charttime,GLUCOSE", spoilt), "--target", "glucose")) == meant
    assert rows(forecast(glucose, table("patient,charttime,glucose [mg/dL]", spoilt).replace(" [mg/dL]", "", 1),
                         "--target", "Glucose", "--unit", "mg/dL")) == meant  # fmt: skip
    # Within the range zero is a reading.
    zeros = [*VALUES[:30], 0, 0, *VALUES[32:]]
    assert rows(forecast(glucose, table("patient,charttime,glucose", zeros), "--target", "glucose")) != meant
    result = forecast(glucose, table("patient,charttime,value,unit", [f"{value},mmol/L" for value in VALUES]),
                      "--target", "glucose", "--unit-column", "unit")  # fmt: skip
    assert isinstance(result.exception, InputError)
    assert "wanted mg/dL" in str(result.exception)
