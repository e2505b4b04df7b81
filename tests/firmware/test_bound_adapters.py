"""Bound adapters in the samples: forecast only what they are for, and say so; the numbers are the Python runtime's."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_runtime.errors import SignalMismatchError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.binding import Use
from device_runtime.format.blob import encode

from .conftest import SOURCE, run
from .dummy import STEPS, bind, make_adapter
from .samples import forecast, quantiles, same
from .service import SERIES, Service

HOUR = 3_600_000_000  # microseconds


def split(text: str, columns: int = 4) -> tuple[str, set[str]]:
    """The table without its last column, and what that column says."""
    rows = [line.split(",") for line in text.splitlines()]
    assert rows[0][columns:] == ["accepted_differences"]
    table = "".join(",".join(row[:columns]) + "\n" for row in rows)
    return table, {row[columns] for row in rows[1:]}


RIGHT = ("--signal", "MAP", "--interval", "1h")


@pytest.fixture
def files(tmp_path: Path, bundle: Bundle) -> Path:
    """A series, and adapters by what they are for."""
    made = {
        "map": bind(),
        "short": bind(context=9, steps=3),
        "no-interval": bind(interval_us=0),
        "own": bind("chamber 3"),  # a signal without code, unit and range
        "unbound": None,
    }
    for name, binding in made.items():
        (tmp_path / f"{name}.etsa").write_bytes(encode(make_adapter(bundle, binding=binding)))
    cells = ("" if np.isnan(value) else f"{value:.9g}" for value in SERIES)
    (tmp_path / "series.csv").write_text("".join(f"{cell}\n" for cell in cells))
    return tmp_path


@pytest.mark.parametrize(
    ("adapter", "options"),
    [
        ("map", RIGHT),
        ("map", ("--signal", "map", "--interval", "60min", "--unit", "mm[Hg]")),
        ("map", ("--signal", "8478-0", "--interval", "3600s")),
        ("no-interval", ("--signal", "MAP")),
        ("own", ("--signal", "Chamber 3", "--interval", "1h", "--unit", "1")),
    ],
)
def test_the_right_use_is_forecast(
    built: Path, library: Path, bundle: Bundle, files: Path, adapter: str, options: tuple[str, ...]
) -> None:
    path = files / f"{adapter}.etsa"
    code, out, err = forecast(built, library, bundle.path, files / "series.csv", "--adapter", path, *options)
    assert code == 0, err
    same(quantiles(out), Forecaster.open(bundle, path).forecast(SERIES).quantiles)
    assert ", for chamber 3\n" in err if adapter == "own" else ", for MAP\n" in err
    assert "USED FOR ANOTHER" not in err


@pytest.mark.parametrize(
    ("use", "options", "difference"),
    [
        (Use(signal="HR", interval_us=HOUR), ("--signal", "HR", "--interval", "1h"), "signal"),
        (Use(signal="MA", interval_us=HOUR), ("--signal", "MA", "--interval", "1h"), "signal"),
        (Use(signal="", interval_us=HOUR), ("--signal", "", "--interval", "1h"), "signal"),
        (Use(signal="MAP", interval_us=HOUR, unit="kPa"), (*RIGHT, "--unit", "kPa"), "unit"),
        (Use(signal="MAP", interval_us=HOUR, unit="MM[HG]"), (*RIGHT, "--unit", "MM[HG]"), "unit"),
        (Use(signal="MAP", interval_us=60_000_000), ("--signal", "MAP", "--interval", "1min"), "interval"),
    ],
)
def test_another_use_is_refused_unless_accepted_by_its_name(
    built: Path,
    library: Path,
    bundle: Bundle,
    files: Path,
    use: Use,
    options: tuple[str, ...],
    difference: str,
) -> None:
    path = files / "map.etsa"
    with pytest.raises(SignalMismatchError):
        Forecaster.open(bundle, path, use=use)
    command = (built, library, bundle.path, files / "series.csv", "--adapter", path, *options)
    others = [name for name in ("signal", "unit", "interval", "context_length") if name != difference]
    for accepted in ([], [part for name in others for part in ("--accept-difference", name)]):
        code, out, err = forecast(*command, *accepted)
        assert (code, out) == (1, "")
        assert f"[330] SignalMismatchError: the adapter is for MAP in mm[Hg] every 3600 s: another {difference} " in err
    code, out, err = forecast(*command, "--accept-difference", difference)
    assert code == 0, err
    assert f", for MAP; USED FOR ANOTHER {difference}, accepted by hand\n" in err
    python = Forecaster.open(bundle, path, use=use, accept=[difference]).forecast(SERIES)
    assert python.accepted_differences == (difference,)
    table, said = split(out)
    same(quantiles(table), python.quantiles)
    assert said == {difference}


@pytest.mark.parametrize("options", [(), ("--signal", "MAP"), ("--interval", "1h")])
def test_a_use_that_nobody_said_is_refused(
    built: Path, library: Path, bundle: Bundle, files: Path, options: tuple[str, ...]
) -> None:
    code, out, err = forecast(
        built, library, bundle.path, files / "series.csv", "--adapter", files / "map.etsa", *options
    )
    assert (code, out) == (1, "")
    assert "[330] SignalMismatchError: the adapter is for MAP: say the signal and the interval" in err


def test_an_unbound_adapter_and_a_base_alone_need_no_word_but_the_first_says_so(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    for options in ((), ("--signal", "HR", "--interval", "5s")):
        code, _, err = forecast(
            built, library, bundle.path, files / "series.csv", "--adapter", files / "unbound.etsa", *options
        )
        assert code == 0, err
        assert "unbound: it does not say which signal it is for" in err
        code, _, err = forecast(built, library, bundle.path, files / "series.csv", *options)
        assert (code, "unbound" in err) == (0, False)


def test_contexts_and_forecasts_are_as_long_as_the_adapter_was_judged_with(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    path = files / "short.etsa"
    command = (built, library, bundle.path, files / "series.csv", "--adapter", path, *RIGHT)
    code, out, err = forecast(*command)
    assert code == 0, err
    python = Forecaster.open(bundle, path)
    wanted = python.forecast(SERIES).quantiles
    assert wanted.shape[0] == 3
    same(quantiles(out), wanted)
    same(quantiles(out), python.forecast(SERIES[-9:]).quantiles)
    # Longer ones are a person's choice, by name, and are said.
    code, out, err = forecast(*command, "--accept-difference", "prediction_length")
    assert code == 0, err
    longer = Forecaster.open(bundle, path, accept=["prediction_length"]).forecast(SERIES, STEPS)
    assert longer.accepted_differences == ("prediction_length",)
    table, said = split(out)
    same(quantiles(table), longer.quantiles)
    assert said == {"prediction_length"}
    assert "USED FOR ANOTHER prediction_length, accepted by hand" in err
    code, out, err = forecast(*command, "--accept-difference", "context_length")
    assert code == 0, err
    table, said = split(out)
    same(quantiles(table), Forecaster.open(bundle, path, accept=["context_length"]).forecast(SERIES).quantiles)
    assert said == {"context_length"}
    accepted = ("--accept-difference", "context_length", "--accept-difference", "prediction_length")
    lines = "".join(f"{70 + step}\n" for step in range(12))
    _, out, _ = forecast(built, library, bundle.path, "--adapter", path, *RIGHT, *accepted, "--stream", stdin=lines)
    rows = [line.split(",") for line in out.splitlines()[1:]]
    assert {row[5] for row in rows if int(row[0]) <= 9} == {"prediction_length"}
    assert {row[5] for row in rows if int(row[0]) > 9} == {"context_length+prediction_length"}
    assert "USED FOR ANOTHER context_length, accepted by hand" in err


def test_a_context_that_is_empty_once_it_is_cut_has_no_forecast(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    text = "80\n" + "\n" * 9  # the only value lies before the adapter's nine
    code, _, err = forecast(built, library, bundle.path, "--adapter", files / "short.etsa", *RIGHT, stdin=text)
    assert (code, "[500] InputError: the context has no observed value" in err) == (1, True)


@pytest.mark.parametrize("text", ["1", "1000", "1 h", "h", "0s", "-1h", "1.5h", "1H", "99999999999d"])
def test_an_interval_that_is_no_span_is_a_usage_error(built: Path, bundle: Bundle, text: str) -> None:
    for binary in ("forecast_ort/etsa-forecast", "service/etsa-service"):
        done = run(built / binary, bundle.path, "--interval", text, stdin="")
        assert (done.returncode, done.stderr[:7]) == (2, "usage: "), (binary, text)


# --- the service ---------------------------------------------------------------------------------------------------


def start(built: Path, library: Path, bundle: Bundle, *arguments: object, interval: str = "1s") -> Service:
    return Service(built / "service" / "etsa-service", library, bundle, *arguments, interval=interval)


@pytest.fixture
def second(files: Path, bundle: Bundle) -> Path:
    """Adapters for steps of a second, as `Service.push` makes them."""
    for name, binding in (
        ("map-1s", bind(interval_us=1_000_000)),
        ("hr-1s", bind("HR", interval_us=1_000_000)),
        ("short-1s", bind(interval_us=1_000_000, context=9, steps=3)),
    ):
        (files / f"{name}.etsa").write_bytes(encode(make_adapter(bundle, binding=binding)))
    return files


def test_service_runs_each_channel_on_an_adapter_of_its_own_signal(
    built: Path, library: Path, bundle: Bundle, second: Path
) -> None:
    adapters = (second / "map-1s.etsa", second / "hr-1s.etsa", second / "unbound.etsa", "-")
    service = start(built, library, bundle, *adapters, "--signal", "map", "--signal", "8867-4")
    for channel in range(3):
        service.log(f"channel {channel} runs")
    service.push(channels=4)
    service.push(channels=4)
    said, _ = service.finish()
    by_channel = {f["channel"]: f for f in said}
    assert [by_channel[i].get("signal") for i in range(4)] == ["MAP", "HR", None, None]
    assert [by_channel[i].get("unbound", False) for i in range(4)] == [False, False, True, False]
    assert all(f["code"] == 0 and "accepted_differences" not in f for f in said)


@pytest.mark.parametrize(
    ("options", "interval", "what"),
    [
        (("--signal", "HR"), "1s", "another signal"),
        (("--signal", "MAP"), "2s", "another interval"),
        (("--signal", "MAP", "--unit", "kPa"), "1s", "another unit"),
        ((), "1s", "say the signal"),
    ],
)
def test_service_keeps_what_runs_when_an_adapter_is_for_something_else(
    built: Path, library: Path, bundle: Bundle, second: Path, options: tuple[str, ...], interval: str, what: str
) -> None:
    service = start(built, library, bundle, second / "map-1s.etsa", *options, interval=interval)
    assert service.process.stderr is not None
    line = service.process.stderr.readline()
    assert "channel 0 keeps what runs: [330] SignalMismatchError: the adapter is for MAP" in line
    assert what in line
    for _ in range(4):
        service.push()
    said, _ = service.finish()
    assert {(f["adapter_version"], f.get("signal")) for f in said} == {(0, None)}


def test_the_unit_starts_the_service_with_what_its_environment_file_says(
    built: Path, library: Path, bundle: Bundle, second: Path
) -> None:
    """Its command line, expanded as systemd does: ${X} is one argument, $X as many as it has words."""
    unit = (SOURCE / "service" / "edge-tsfm.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    private = Ed25519PrivateKey.generate()
    key = private.public_key().public_bytes_raw()
    blob = (second / "own.etsa").read_bytes()
    head = b"ETSG\1\0\1\0" + hashlib.sha256(key).digest()[:8]
    (second / "own.etsa").write_bytes(blob + head + private.sign(b"edge-tsfm adapter v1\0" + blob))
    for signal, options, said in (
        ("chamber 3", "", "channel 0 runs"),
        ("chamber 4", "", "keeps what runs: [330]"),
        ("", "", "keeps what runs: [330]"),
        ("chamber 4", "--unit 1 --accept-difference signal", "channel 0 runs"),
    ):
        values = {"KEY": key.hex(), "SIGNAL": signal, "INTERVAL": "1h", "OPTIONS": options}
        command: list[str] = []
        for word in line.split():
            whole = re.fullmatch(r"\$\{EDGE_TSFM_(\w+)\}", word)
            split = re.fullmatch(r"\$EDGE_TSFM_(\w+)", word)
            command += [values[whole[1]]] if whole else values[split[1]].split() if split else [word]
        assert command[0] == "/usr/bin/etsa-service"
        command = [str(second / "own.etsa") if part.endswith("map.etsa") else part for part in command]
        command = [str(bundle.path) if part == "/usr/share/edge-tsfm/bundle" else part for part in command]
        done = run(built / "service" / "etsa-service", "--library", library, *command[1:], stdin="")
        assert done.returncode == 0, done.stderr
        assert said in done.stderr


def test_service_says_what_a_person_accepted_in_every_forecast(
    built: Path, library: Path, bundle: Bundle, second: Path
) -> None:
    service = start(
        built, library, bundle, second / "short-1s.etsa", "--signal", "HR", "--accept-difference", "signal",
        "--accept-difference", "prediction_length", "--accept-difference", "context_length",
    )  # fmt: skip
    service.log("channel 0 runs")
    for _ in range(12):
        service.push()
    said, _ = service.finish()
    assert len(said) == 11
    for number, got in enumerate(said, 1):
        wanted = ["signal", *(["context_length"] if number > 9 else []), "prediction_length"]
        assert (got["signal"], got["accepted_differences"]) == ("MAP", wanted)
        assert len(got["quantiles"]["0.5"]) == STEPS


def test_service_cuts_to_the_adapters_lengths_as_python_does(
    built: Path, library: Path, bundle: Bundle, second: Path
) -> None:
    service = start(built, library, bundle, second / "short-1s.etsa", "--signal", "MAP")
    service.log("channel 0 runs")
    values = [float(70 + step) for step in range(15)]
    out, _ = service.process.communicate("".join(f"0 {1000 * k} {v} 0\n" for k, v in enumerate(values)), timeout=60)
    said = [json.loads(line) for line in out.splitlines()]
    assert len(said) == 14
    python = Forecaster.open(bundle, second / "short-1s.etsa")
    for k, got in enumerate(said, 1):
        wanted = python.forecast(np.array(values[max(0, k - 9) : k], dtype=np.float32)).quantiles
        same(np.array([got["quantiles"][level] for level in ("0.1", "0.5", "0.9")]).T, wanted)


def test_service_rejects_what_is_no_reading_of_the_adapters_signal(
    built: Path, library: Path, bundle: Bundle, second: Path
) -> None:
    bound = bind(interval_us=1_000_000)
    assert (bound.low, bound.high) == (14, 330)
    lines = [(0, 80.0), (1, 331.0), (1, 82.0), (2, 13.9), (3, 330.0), (4, 14.0), (5, 400.0), (6, 80.0)]
    text = "".join(f"0 {1000 * second_ + n} {value} 0\n" for n, (second_, value) in enumerate(lines))
    service = start(built, library, bundle, second / "map-1s.etsa", "--signal", "MAP")
    service.log("channel 0 runs")
    out, err = service.process.communicate(text, timeout=60)
    assert "3 values were rejected" in err
    last = json.loads(out.splitlines()[-1])
    context = np.array([80, 82, np.nan, 330, 14, np.nan], dtype=np.float32)
    wanted = Forecaster.open(bundle, second / "map-1s.etsa").forecast(context).quantiles
    same(np.array([last["quantiles"][level] for level in ("0.1", "0.5", "0.9")]).T, wanted)
    # Without an adapter, or with an unbound one, any number is a reading.
    for adapter in ("-", second / "unbound.etsa"):
        service = start(built, library, bundle, adapter, "--signal", "MAP")
        _, err = service.process.communicate(text, timeout=60)
        assert "rejected" not in err
