"""The samples as a product would run them: forecasts as the Python runtime's, refusals by their codes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_runtime.errors import ForecastError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.merge import merge
from device_runtime.format import canonical
from device_runtime.format.adapter import Calibration
from device_runtime.format.blob import encode
from device_runtime.format.delta import Numbers
from tests.support.rounding import ANY_ORDER

from .conftest import SOURCE, run
from .dummy import CONTEXT, LEVELS, STEPS, make_adapter
from .service import SERIES, Service


@pytest.fixture(scope="module")
def blob(bundle: Bundle) -> bytes:
    return encode(make_adapter(bundle))


@pytest.fixture
def files(tmp_path: Path, blob: bytes) -> Path:
    (tmp_path / "map.etsa").write_bytes(blob)
    rows = "".join(
        "time,MAP\n" if i < 0 else f"{i},{'' if np.isnan(SERIES[i]) else SERIES[i]}\n" for i in range(-1, 50)
    )
    (tmp_path / "series.csv").write_text(rows)
    return tmp_path


def forecast(
    built: Path, library: Path, bundle: Path, *arguments: object, stdin: str | None = None
) -> tuple[int, str, str]:
    done = run(built / "forecast_ort" / "etsa-forecast", "--library", library, bundle, *arguments, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


def quantiles(text: str) -> np.ndarray:
    """The table that etsa-forecast prints: ``[H, Q]``."""
    return np.array([[float(cell) for cell in line.split(",")[1:]] for line in text.splitlines()[1:]])


def same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal to rounding of the largest: quantiles near zero are differences of larger numbers."""
    assert got.shape == wanted.shape
    assert float(np.abs(got - wanted).max()) <= ANY_ORDER * float(np.abs(wanted).max())


@pytest.mark.parametrize("with_adapter", [False, True])
def test_forecasts_are_those_of_python(
    built: Path, library: Path, bundle: Bundle, files: Path, with_adapter: bool
) -> None:
    adapter = files / "map.etsa" if with_adapter else None
    options = ["--adapter", adapter] if adapter else []
    code, out, err = forecast(built, library, bundle.path, files / "series.csv", *options)
    assert code == 0, err
    wanted = Forecaster.open(bundle, adapter).forecast(SERIES).quantiles
    same(quantiles(out), wanted)
    assert out.splitlines()[0] == "step,0.1,0.5,0.9"
    assert bundle.digest.hex()[:16] in err


def test_stream_forecasts_after_every_row(built: Path, library: Path, bundle: Bundle, files: Path) -> None:
    lines = "".join(f"{value}\n" for value in SERIES[:5])
    code, out, _ = forecast(built, library, bundle.path, "--stream", "--adapter", files / "map.etsa", stdin=lines)
    assert code == 0
    python = Forecaster.open(bundle, files / "map.etsa")
    rows = [line.split(",") for line in out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [[str(t), str(h)] for t in range(1, 6) for h in range(1, STEPS + 1)]
    got = np.array([[float(cell) for cell in row[2:]] for row in rows]).reshape(5, STEPS, LEVELS)
    for t in range(5):
        same(got[t], python.forecast(SERIES[: t + 1]).quantiles)


def test_merged_weights_are_those_of_python(
    built: Path, library: Path, bundle: Bundle, files: Path, blob: bytes
) -> None:
    from device_runtime.format.blob import decode

    binary = built / "forecast_ort" / "etsa-forecast"
    for index, wanted in merge(bundle.manifest, bundle.tensor, decode(blob)).items():
        command = [
            binary,
            "--library",
            library,
            bundle.path,
            "--adapter",
            files / "map.etsa",
            "--merged",
            index,
        ]
        done = subprocess.run([str(part) for part in command], capture_output=True, check=True)
        assert done.stdout == wanted.tobytes()


def refused(built: Path, library: Path, bundle: Path, data: bytes, folder: Path, *options: str) -> int:
    """Return the code that refuses an adapter."""
    (folder / "bad.etsa").write_bytes(data)
    code, out, err = forecast(built, library, bundle, folder / "series.csv", "--adapter", folder / "bad.etsa", *options)
    assert (code, out) == (1, ""), err
    match = re.search(r"^etsa-forecast: \[(\d+)\] \w+Error: \S", err, flags=re.MULTILINE)
    assert match is not None, err
    return int(match[1])


def test_refusals(built: Path, library: Path, bundle: Bundle, files: Path, blob: bytes) -> None:
    adapter = make_adapter(bundle)
    answer = adapter.known_answer
    assert answer is not None
    wrong = replace(adapter, known_answer=replace(answer, expected=answer.expected + np.float32(0.1)))
    cases = {
        100: b"ETSB" + blob[4:],
        101: blob[:-1] + bytes([blob[-1] ^ 1]),
        102: blob[:-1],
        300: encode(replace(adapter, base_digest=bytes(32))),
        310: encode(replace(adapter, deltas={9: adapter.deltas[0]}, known_answer=None)),
        320: encode(wrong),
    }
    for code, data in cases.items():
        assert refused(built, library, bundle.path, data, files) == code
    assert refused(built, library, bundle.path, blob, files, "--floor", "4") == 210
    assert refused(built, library, bundle.path, blob, files, "--key", "00" * 32) == 200


def test_signed_adapter(built: Path, library: Path, bundle: Bundle, files: Path, blob: bytes) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    private = ed25519.Ed25519PrivateKey.generate()
    key = private.public_key().public_bytes_raw()
    head = b"ETSG\1\0\1\0" + hashlib.sha256(key).digest()[:8]
    signed = blob + head + private.sign(b"edge-tsfm adapter v1\0" + blob)
    (files / "signed.etsa").write_bytes(signed)
    arguments = (files / "series.csv", "--adapter", files / "signed.etsa")
    for keys in (("--key", key.hex()), ("--key", "11" * 32, "--key", key.hex())):  # one of the trusted ones
        code, _, err = forecast(built, library, bundle.path, *arguments, *keys)
        assert code == 0, err
    other = signed[:-1] + bytes([signed[-1] ^ 1])
    assert refused(built, library, bundle.path, other, files, "--key", key.hex()) == 200


def test_a_changed_base_is_refused(built: Path, library: Path, bundle: Bundle, files: Path) -> None:
    copy = files / "bundle"
    shutil.copytree(bundle.path, copy)
    path = copy / "tunable.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, _, err = forecast(built, library, copy, files / "series.csv")
    assert code == 1
    assert "[300] BaseMismatchError" in err
    path.write_bytes(data[:-1])
    assert "[300] BaseMismatchError" in forecast(built, library, copy, files / "series.csv", "--trust-files")[2]
    path.unlink()
    assert "[400] StorageError" in forecast(built, library, copy, files / "series.csv")[2]


@pytest.mark.parametrize(("text", "code"), [("", 500), ("\n\n", 500), ("inf\n", 500), ("1\nx\n", 500)])
def test_contexts_without_a_forecast(built: Path, library: Path, bundle: Bundle, text: str, code: int) -> None:
    returned, _, err = forecast(built, library, bundle.path, stdin=text)
    assert returned == 1
    assert f"[{code}] " in err


@pytest.mark.parametrize("text", ["", "inf\n"])
def test_a_repeated_forecast_that_fails_names_its_own_error(
    built: Path, library: Path, bundle: Bundle, text: str
) -> None:
    """With --stream a context without a forecast is no error, so that of the repetition is the first to be said."""
    returned, _, err = forecast(built, library, bundle.path, "--stream", "--repeat", "3", stdin=text)
    assert returned == 1
    assert re.search(r"^etsa-forecast: \[500\] InputError: \S", err, flags=re.MULTILINE), err


def test_a_graph_whose_numbers_are_not_float32_is_no_forecast(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path
) -> None:
    """As many bytes of another type would else be read as floats."""
    onnx = pytest.importorskip("onnx")
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    model = onnx.load(str(copy / "forecast.onnx"), load_external_data=False)
    model.graph.node[-1].output[0] = "floats"
    model.graph.node.append(onnx.helper.make_node("Cast", ["floats"], ["quantiles"], to=onnx.TensorProto.INT32))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    data = model.SerializeToString()
    (copy / "forecast.onnx").write_bytes(data)
    manifest = json.loads((copy / "bundle.json").read_bytes())
    manifest["files"]["forecast.onnx"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (copy / "bundle.json").write_bytes(canonical.dumps(manifest))
    returned, out, err = forecast(built, library, copy, stdin="1\n2\n3\n4\n")
    assert (returned, out) == (1, "")
    assert "[501] ForecastError: the graph gave numbers of type 6, want float32" in err


def test_a_calibration_beyond_all_floats_is_no_forecast(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    offsets = Numbers.of(np.full((LEVELS, 1), 3e38), "float32")
    (files / "map.etsa").write_bytes(encode(replace(make_adapter(bundle), calibration=Calibration(offsets=offsets))))
    with pytest.raises(ForecastError):
        Forecaster.open(bundle, files / "map.etsa").forecast(SERIES)
    assert refused(built, library, bundle.path, (files / "map.etsa").read_bytes(), files, "--column", "2") == 501


def test_usage(built: Path) -> None:
    assert run(built / "forecast_ort" / "etsa-forecast").returncode == 2
    assert run(built / "service" / "etsa-service", "--nonsense").returncode == 2


@pytest.mark.parametrize(
    "option",
    [
        ("--floor", ""), ("--floor", "3x"), ("--floor", "-1"), ("--floor", str(2**64)), ("--threads", "0"),
        ("--threads", "two"), ("--key", "0" * 63), ("--key", "g" * 64), ("--floor",),
    ],
)  # fmt: skip
def test_a_slip_in_an_option_is_a_usage_error_and_never_a_zero(
    built: Path, bundle: Bundle, option: tuple[str, ...]
) -> None:
    for binary in ("forecast_ort/etsa-forecast", "service/etsa-service"):
        done = run(built / binary, bundle.path, *option, stdin="")
        assert done.returncode == 2, (binary, done.stderr)
        assert done.stderr.startswith("usage: ")


def test_a_row_that_is_too_long_is_refused(built: Path, library: Path, bundle: Bundle) -> None:
    code, _, err = forecast(built, library, bundle.path, stdin="1\n" + "2," * 40_000 + "3\n")
    assert (code, "[500]" in err) == (1, True)


def test_onnx_runtime_writes_and_reports_nothing(built: Path, library: Path, bundle: Bundle, tmp_path: Path) -> None:
    """Builds from 1.29 on would leave an identifier and a database of events in the home folder (docs/adr/0018)."""
    environment = {"HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": "0"}  # no CI variable, which would silence it too
    command = [built / "forecast_ort" / "etsa-forecast", "--library", library, bundle.path]
    done = subprocess.run(
        [str(part) for part in command], input="80\n", capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.startswith("step,")
    assert list(tmp_path.iterdir()) == []


def test_peak_memory_is_the_programs_own(built: Path, library: Path, bundle: Bundle) -> None:
    """Not that of the process that started it, as getrusage has it."""
    ballast = np.ones(50_000_000)  # 400 MB
    _, _, err = forecast(built, library, bundle.path, stdin="80\n")
    found = re.search(r"^peak memory: ([\d.]+) MB$", err, flags=re.MULTILINE)
    assert found is not None
    assert 1 < float(found[1]) < 150, ballast[0]


def test_sessions_have_copies_of_merged_tensors(built: Path, library: Path, bundle: Bundle, files: Path) -> None:
    """What was freed is overwritten here: a session that pointed into it would forecast something else."""
    command = [built / "forecast_ort" / "etsa-forecast", "--library", library, bundle.path, files / "series.csv"]
    command += ["--adapter", files / "map.etsa"]
    environment = {**os.environ, "MALLOC_PERTURB_": "165"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    same(quantiles(done.stdout), Forecaster.open(bundle, files / "map.etsa").forecast(SERIES).quantiles)


def test_service_swaps_without_dropping_a_forecast(built: Path, library: Path, bundle: Bundle, files: Path) -> None:
    running = files / "running.etsa"
    running.write_bytes(encode(make_adapter(bundle, version=3)))
    service = Service(built / "service" / "etsa-service", library, bundle, running, "-")
    service.log("channel 0 runs")
    for data, log in (
        (encode(make_adapter(bundle, seed=2, version=4)), "channel 0 runs"),
        (b"ETSA" + bytes(100), "channel 0 keeps what runs: [102]"),
        (encode(make_adapter(bundle, seed=2, version=5))[:-1], "channel 0 keeps what runs: [102]"),
    ):
        for _ in range(30):
            service.push(channels=2)
        service.forecasts(2 * (29 if service.step == 30 else 30))
        # replaced as an updater does: a new file under the old name
        (files / "next").write_bytes(data)
        (files / "next").replace(running)
        service.process.send_signal(signal.SIGHUP)
        for _ in range(20):  # values keep coming while it is verified and merged
            service.push(channels=2)
        service.forecasts(40)
        service.log(log)
    service.push(channels=2)
    rest, _ = service.finish()
    assert [f["adapter_version"] for f in rest if f["channel"] == 0] == [4]
    assert [f["adapter_version"] for f in rest if f["channel"] == 1] == [0]
    assert {f["code"] for f in rest} == {0}


def test_service_goes_back_to_the_base_with_an_empty_file(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    running = files / "map.etsa"
    service = Service(built / "service" / "etsa-service", library, bundle, running)
    service.log("channel 0 runs")
    (files / "next").write_bytes(b"")
    (files / "next").replace(running)
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 runs the base alone")
    service.push()
    service.push()
    rest, _ = service.finish()
    assert [(f["code"], f["adapter_version"]) for f in rest] == [(0, 0)]


def test_service_refuses_a_swap_on_a_base_that_was_replaced(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    """Even by equal bytes: ONNX Runtime opens the weights by their name, and what it opens must be what was checked."""
    copy = files / "bundle"
    shutil.copytree(bundle.path, copy)
    running = files / "map.etsa"
    service = Service(built / "service" / "etsa-service", library, Bundle.open(copy), running)
    service.log("channel 0 runs")
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 runs")
    shutil.copy(bundle.path / "tunable.safetensors", files / "same")
    (files / "same").replace(copy / "tunable.safetensors")
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 keeps what runs: [300] BaseMismatchError")
    service.push()
    service.push()
    rest, _ = service.finish()
    assert [(f["code"], f["adapter_version"]) for f in rest] == [(0, 3)]


def test_service_reads_datagrams_with_and_without_a_newline(built: Path, library: Path, bundle: Bundle) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    command = [built / "service" / "etsa-service", "--library", library, "--interval", "1s", bundle.path]
    with ours, theirs:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for data in (
            b"0 0 70 0",
            b"0 1000 71 0\r\n0 2000 72 0",
            b"0 3000 73 0\n",
            b"0 4000 74 0\0",
            b"9 1 1 0",
            b"x" * 5000,
        ):
            ours.send(data)
        assert process.stdout is not None
        forecasts = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    # The zero byte ends the text of its line, as anywhere in C; nothing behind it is lost.
    assert [f["t_ms"] for f in forecasts] == [1000, 2000, 3000]
    assert err.count("a line that is not CHANNEL") == 2


def test_service_fails_when_nobody_reads_its_forecasts(built: Path, library: Path, bundle: Bundle) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle)
    assert service.process.stdout is not None
    service.process.stdout.close()
    service.push()
    service.push()
    assert service.process.wait(timeout=60) == 1
    service.log("forecasts could not be written")


@pytest.mark.parametrize(
    "line", ["0 1 2 0x", "0 1 2", "-1 1 2 0", "0 1 2 0 0", "0 99999999999999999999 2 0", "0 x 2 0"]
)
def test_service_takes_whole_lines_only(built: Path, library: Path, bundle: Bundle, line: str) -> None:
    done = run(built / "service" / "etsa-service", "--library", library, bundle.path, stdin=line + "\n")
    assert done.returncode == 0, done.stderr
    assert "a line that is not CHANNEL" in done.stderr
    assert done.stdout == ""


def test_service_forecasts_every_step_once_and_as_python_does(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle, files / "map.etsa")
    service.log("channel 0 runs")
    lines = []
    context = []
    for step in range(40):
        if step in (10, 11):  # nothing came
            context.append(np.nan)
            continue
        values = [70 + step, 71 + step]
        context.append(values[-1] if step != 20 else np.nan)
        lines += [f"0 {step * 1000 + 100 * i} {value} {2 if step == 20 else 0}\n" for i, value in enumerate(values)]
        lines += [f"0 {step * 1000 + 300} 999 1\n"]
    lines += ["0 37000 70 0\n", "0 5000 70 0\n", "not a line\n"]
    out, err = service.process.communicate("".join(lines), timeout=60)
    forecasts = [json.loads(line) for line in out.splitlines()]
    assert [f["t_ms"] for f in forecasts] == [1000 * (k + 1) for k in range(39)]
    assert "40 values were rejected" in err  # 38 of quality 1, both of step 20
    assert "1 values came too late" in err
    assert "1 values strayed" in err
    assert "a line that is not CHANNEL" in err
    python = Forecaster.open(bundle, files / "map.etsa")
    for k, got in enumerate(forecasts):
        wanted = python.forecast(np.array(context[: k + 1][-CONTEXT:], dtype=np.float32)).quantiles
        rows = np.array([got["quantiles"][level] for level in ("0.1", "0.5", "0.9")]).T
        same(rows, wanted)
        assert got["base"] == bundle.digest.hex()


def test_service_tells_systemd(built: Path, library: Path, bundle: Bundle, files: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = str(files / "notify")
        listener.bind(path)
        listener.settimeout(30)
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
        service = Service(built / "service" / "etsa-service", library, bundle, **environment)
        heard = {listener.recv(100).decode()}
        start = time.monotonic()
        while "READY=1" not in heard:
            heard.add(listener.recv(100).decode())
        alive = [listener.recv(100).decode() for _ in range(4)]  # idle: pings come of themselves
        assert set(alive) == {"WATCHDOG=1"}
        assert time.monotonic() - start < 10
        service.finish()
        while "STOPPING=1" not in heard:
            heard.add(listener.recv(100).decode())


def test_service_stops_on_sigterm(built: Path, library: Path, bundle: Bundle) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle)
    service.push()
    service.push()
    service.forecasts(1)
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(timeout=30)
    assert service.process.returncode == 0


def test_service_believes_a_clock_that_was_set_but_no_single_stray(built: Path, library: Path, bundle: Bundle) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle)
    steps = (0, 1, 77_777, 2, 10_000_000, 10_000_001, 10_000_002, 10_000_003)
    lines = [f"0 {step * 1000} {70 + number} 0\n" for number, step in enumerate(steps)]
    out, err = service.process.communicate("".join(lines), timeout=60)
    forecasts = [json.loads(line) for line in out.splitlines()]
    assert "3 values strayed" in err  # 77,777 and the first two of the new time
    skipped = re.search(r"(\d+) steps were skipped", err)  # were due when the clock was set
    assert len(forecasts) + (int(skipped[1]) if skipped else 0) == 3
    assert forecasts[-1]["t_ms"] == 10_000_003_000
    assert forecasts[-1]["code"] == 0
    wanted = Forecaster.open(bundle).forecast([76.0]).quantiles
    rows = np.array([forecasts[-1]["quantiles"][level] for level in ("0.1", "0.5", "0.9")]).T
    same(rows, wanted)


def test_service_fills_a_missing_step_late(built: Path, library: Path, bundle: Bundle) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle)
    lines = ["0 0 70 0\n", "0 1000 71 2\n", "0 2000 72 0\n", "0 1500 71.5 0\n", "0 1600 99 0\n", "0 3000 73 0\n"]
    for line in lines[:3]:
        service.write(line)
    first = service.forecasts(2)
    for line in lines[3:]:
        service.write(line)
    rest, err = service.finish()
    assert "1 values came too late" in err  # step 1 had been filled when 99 came
    python = Forecaster.open(bundle)
    contexts = ([70], [70, np.nan], [70, 71.5, 72])
    for got, context in zip([*first, *rest], contexts, strict=True):
        wanted = python.forecast(np.array(context, dtype=np.float32)).quantiles
        rows = np.array([got["quantiles"][level] for level in ("0.1", "0.5", "0.9")]).T
        same(rows, wanted)


def test_sample_data(built: Path, library: Path, tmp_path: Path) -> None:
    """The README's first forecast: its bundle, its signed adapter, its series."""
    data = SOURCE / "sample_data"
    key = (data / "key.hex").read_text().strip()
    use = ("--signal", "MAP", "--interval", "1h")
    arguments = (data / "series.csv", "--adapter", data / "ward.etsa", "--key", key, *use)
    code, out, err = forecast(built, library, data / "bundle", *arguments)
    assert code == 0, err
    series = np.genfromtxt(data / "series.csv", delimiter=",", skip_header=1, usecols=1)
    same(quantiles(out), Forecaster.open(data / "bundle", data / "ward.etsa").forecast(series).quantiles)


def test_what_was_released_with_format_1_is_still_read_and_said_to_be_unbound(built: Path, library: Path) -> None:
    """A signed adapter as an earlier version wrote it, on the bundle of that time (sample_data's)."""
    data, old = SOURCE / "sample_data", Path(__file__).parents[1] / "released" / "format-1.etsa"
    series = np.genfromtxt(data / "series.csv", delimiter=",", skip_header=1, usecols=1)
    made = Forecaster.open(data / "bundle", old).forecast(series)
    assert (made.unbound, made.binding) == (True, None)
    key = (data / "key.hex").read_text().strip()
    arguments = (data / "series.csv", "--adapter", old, "--key", key)
    code, out, err = forecast(built, library, data / "bundle", *arguments)
    assert code == 0, err
    assert "unbound: it does not say which signal it is for" in err
    same(quantiles(out), made.quantiles)
