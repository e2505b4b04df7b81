"""What an adapter is for, and what is done with one that is for something else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_runtime.errors import BaseMismatchError, InputError, SignalMismatchError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.binding import DIFFERENCES, Binding, Use, check, differences, require_said
from device_runtime.format.blob import decode, encode
from tests.support.adapters import example_adapter, example_binding

HOUR = 3_600_000_000
BASES = Path(__file__).resolve().parents[2] / "dummy_bases"
UNBOUND = (BASES / "chronos-bolt.etsa").read_bytes()
CONTEXT = (80 + np.arange(60) % 7).astype(np.float32)


def bound_blob(**changes: object) -> bytes:
    return encode(replace(decode(UNBOUND), binding=example_binding(**changes)))


@pytest.mark.parametrize("name", ["MAP", "map", "ABPMean", "abp_mean", "8478-0", "mean blood pressure"])
def test_every_name_of_a_signal_is_that_signal(name: str) -> None:
    assert example_binding().is_signal(name)


@pytest.mark.parametrize("name", ["HR", "8867-4", "SBP", "MA", "MAPP", "", "8478"])
def test_another_name_is_another_signal(name: str) -> None:
    assert not example_binding().is_signal(name)


def test_another_domains_signal_goes_by_its_name() -> None:
    oil = Binding(name="OT", interval_us=HOUR, context_length=48, prediction_length=6)
    assert oil.is_signal("ot")
    assert not oil.is_signal("HUFL")
    assert str(oil) == "OT every 1h, 48 steps to 6"


@pytest.mark.parametrize(
    ("use", "found"),
    [
        (Use(), ()),
        (Use(signal="MAP", unit="mm[Hg]", interval_us=HOUR, context_length=48, prediction_length=6), ()),
        (Use(signal="MAP", context_length=12, prediction_length=1), ()),
        (Use(signal="HR"), ("signal",)),
        (Use(unit="kPa"), ("unit",)),
        (Use(interval_us=60_000_000), ("interval",)),
        (Use(context_length=49), ("context_length",)),
        (Use(prediction_length=7), ("prediction_length",)),
        (Use(signal="HR", unit="/min", interval_us=1, context_length=999, prediction_length=99), DIFFERENCES),
    ],
)
def test_differences(use: Use, found: tuple[str, ...]) -> None:
    assert tuple(differences(example_binding(), use)) == found
    assert check(example_binding(), use, found) == found
    for what in found:
        with pytest.raises(SignalMismatchError, match=what.replace("_", " ")) as refusal:
            check(example_binding(), use, set(found) - {what})
        assert refusal.value.code == 330
        assert what in str(refusal.value.hint)


def test_only_a_difference_that_exists_can_be_accepted() -> None:
    with pytest.raises(InputError, match="all"):
        check(example_binding(), Use(), ["all"])


def test_data_must_say_what_they_are() -> None:
    require_said(example_binding(), Use(signal="MAP", interval_us=HOUR))
    require_said(example_binding(interval_us=0), Use(signal="MAP"))
    for use in (Use(interval_us=HOUR), Use(signal="MAP")):
        with pytest.raises(SignalMismatchError, match="here is not stated"):
            require_said(example_binding(), use)


def test_a_forecaster_refuses_another_signal_and_names_what_was_accepted(dummy_bundle: Path) -> None:
    hr = Use(signal="HR", interval_us=HOUR)
    with pytest.raises(SignalMismatchError, match=r"\[330\].*MAP.*signal HR, want MAP"):
        Forecaster.open(dummy_bundle, bound_blob(), use=hr)
    forecast = Forecaster.open(dummy_bundle, bound_blob(), use=hr, accept=["signal"]).forecast(CONTEXT)
    assert forecast.accepted_differences == ("signal",)
    assert forecast.binding == example_binding()
    right = Forecaster.open(dummy_bundle, bound_blob(), use=Use(signal="abpmean", interval_us=HOUR))
    assert right.forecast(CONTEXT).accepted_differences == ()
    with pytest.raises(SignalMismatchError):
        right.forecast(CONTEXT, use=hr)


def test_lengths_are_the_adapters_own_unless_a_person_accepts_more(dummy_bundle: Path) -> None:
    plain = Forecaster.open(dummy_bundle, UNBOUND)
    bound = Forecaster.open(dummy_bundle, bound_blob(context_length=32, prediction_length=3))
    forecast = bound.forecast(CONTEXT)
    np.testing.assert_array_equal(forecast.quantiles, plain.forecast(CONTEXT[-32:], 3).quantiles)
    with pytest.raises(SignalMismatchError, match="prediction length 4, want 3"):
        bound.forecast(CONTEXT, 4)
    longer = Forecaster.open(
        dummy_bundle,
        bound_blob(context_length=32, prediction_length=3),
        accept=["context_length", "prediction_length"],
    ).forecast(CONTEXT, 4)
    np.testing.assert_array_equal(longer.quantiles, plain.forecast(CONTEXT, 4).quantiles)
    assert longer.accepted_differences == ("context_length", "prediction_length")


def test_a_context_whose_last_steps_are_missing_is_not_cut_to_nothing(dummy_bundle: Path) -> None:
    context = CONTEXT.copy()
    context[-32:] = np.nan
    with pytest.raises(InputError, match="last 32 steps"):
        Forecaster.open(dummy_bundle, bound_blob(context_length=32)).forecast(context)


def test_a_blob_of_format_1_is_read_and_is_unbound(dummy_bundle: Path) -> None:
    assert UNBOUND[4] == 1
    assert encode(decode(UNBOUND)) == UNBOUND
    forecast = Forecaster.open(dummy_bundle, UNBOUND, use=Use(signal="HR")).forecast(CONTEXT)
    assert forecast.unbound
    assert forecast.binding is None


def test_the_base_alone_is_bound_to_nothing(dummy_bundle: Path) -> None:
    forecast = Forecaster.open(dummy_bundle, use=Use(signal="HR", interval_us=1)).forecast(CONTEXT)
    assert not forecast.unbound
    assert forecast.binding is None


def test_another_base_is_said_before_another_signal(dummy_bundle: Path) -> None:
    assert Bundle.open(dummy_bundle).digest != example_adapter().base_digest
    with pytest.raises(BaseMismatchError):
        Forecaster.open(dummy_bundle, encode(example_adapter()), use=Use(signal="HR"))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--signal", "HR", "--interval", "1h"], "signal HR, want MAP"),
        (["--signal", "MAP", "--interval", "60s"], "interval 1min, want 1h"),
        (["--signal", "bed3=HR", "--interval", "1h"], "signal HR, want MAP"),
        (["--signal", "MAP", "--signal", "HR", "--interval", "1h"], "signal HR, want MAP"),
    ],
)
def test_a_stream_of_another_signal_or_interval_does_not_begin(
    dummy_bundle: Path, tmp_path: Path, options: list[str], wanted: str
) -> None:
    done = stream(dummy_bundle, tmp_path, *options, samples="")
    assert done.returncode == 1
    assert wanted in done.stderr
    assert "[330]" in done.stderr


def test_a_stream_says_what_its_adapter_is_for_and_what_was_accepted(dummy_bundle: Path, tmp_path: Path) -> None:
    samples = "".join(f"bed3,{step * 3_600_000},{value}\n" for step, value in enumerate([80, 0, 82, 999, 84, 85]))
    done = stream(
        dummy_bundle, tmp_path, "--signal", "bed3=HR", "--interval", "1h", "--min-observed", "3",
        "--accept-difference", "signal", samples=samples,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["signal"], line["accepted_differences"]) == ("MAP", ["signal"])
    assert json.loads(done.stderr.splitlines()[-1])["counts"]["rejected"] == 2, "0 and 999 are no heart rates"


def stream(bundle: Path, folder: Path, *options: str, samples: str) -> subprocess.CompletedProcess[str]:
    (folder / "map.etsa").write_bytes(bound_blob())
    command = [sys.executable, "-m", "device_runtime.cli", "stream", str(bundle)]
    command += ["--adapter", str(folder / "map.etsa"), "--context-length", "8", "--prediction-length", "2", *options]
    return subprocess.run(command, input=samples, capture_output=True, text=True, check=False)
