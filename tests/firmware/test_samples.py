"""The forecast sample as a product would run it: forecasts as the Python runtime's, refusals by their codes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
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

from .conftest import run
from .dummy import LEVELS, STEPS, make_adapter
from .samples import forecast, quantiles, same
from .service import SERIES


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
