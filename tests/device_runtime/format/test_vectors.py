"""The Python runtime on tests/vectors/, which the C core reads too."""

from __future__ import annotations

import hashlib
import importlib
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from device_runtime import errors
from device_runtime.forecast.known_answer import widest_tolerance
from device_runtime.forecast.merge import merge
from device_runtime.forecast.quantiles import calibrate
from device_runtime.format import layout
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import decode, encode
from device_runtime.format.envelope import split, verify
from device_runtime.format.generator import projection, seeded_entries, words
from device_runtime.format.manifest import Manifest
from device_runtime.format.quantised import quantise

FOLDER = Path(__file__).parents[2] / "vectors"
FORMAT_MD = Path(errors.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
PATHS = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.rglob("*.vec"))}


def read(name: str) -> tuple[dict[str, list[str]], bytes]:
    """Header (each key's values) and payload of a vector."""
    head, payload = PATHS[name].read_bytes().split(b"\n\n", 1)
    keys: dict[str, list[str]] = {}
    for line in head.decode("ascii").split("\n"):
        key, value = line.split(": ", 1)
        keys.setdefault(key, []).append(value)
    return keys, payload


def of(what: str) -> list[str]:
    return [name for name in PATHS if read(name)[0]["what"] == [what]]


def expected(keys: dict[str, list[str]]) -> str:
    return keys["expect"][0]


def outcome(error: errors.DeviceRuntimeError) -> str:
    return f"{type(error).__name__} {error.code}"


def base(tensor: int, shape: tuple[int, int], largest: bool) -> np.ndarray:
    """The base that tests/vectors/README.md names."""
    if largest:
        return np.full(shape, np.finfo(np.float32).max, dtype=np.float32)
    drawn = words(tensor, 9, np.arange(shape[0] * shape[1], dtype=np.uint64)) >> np.uint64(40)
    return ((drawn.astype(np.int64) - 2**23) / 2**26).astype(np.float32).reshape(shape)


def manifest_for(adapter: Adapter, levels: int) -> Manifest:
    """A manifest whose table has the adapter's shapes; tensors it does not name are ``[1, 1]``."""
    from device_runtime.format.manifest import TensorEntry

    shapes = {index: delta.shape for index, delta in adapter.deltas.items()}
    table = (TensorEntry(name=f"t{i}", shape=shapes.get(i, (1, 1)), offset=0) for i in range(max(shapes) + 1))
    return Manifest(
        name="vectors",
        family="chronos-bolt",
        context_length=64,
        prediction_length=8,
        quantile_levels=tuple((j + 1) / (levels + 1) for j in range(levels)),
        parameters={},
        precision="float32",
        graphs={},
        files={},
        tensors=tuple(table),
        digest=adapter.base_digest,
    )


@pytest.mark.parametrize("name", of("blob"))
def test_blob(name: str) -> None:
    keys, payload = read(name)
    if "rule" in keys:
        with pytest.raises(errors.DeviceRuntimeError, match=rf"\b{keys['rule'][0]}\b") as refusal:
            decode(payload)
        assert outcome(refusal.value) == expected(keys)
        return
    adapter = decode(payload)
    assert encode(adapter) == payload
    largest = keys.get("base") == ["largest"]
    manifest = manifest_for(adapter, len(adapter.calibration.offsets.stored) if adapter.calibration else 1)

    def merged() -> dict[int, np.ndarray]:
        return merge(manifest, lambda index: base(index, adapter.deltas[index].shape, largest), adapter)

    if expected(keys) != "ok":
        with pytest.raises(errors.MergeError) as refusal:
            merged()
        assert outcome(refusal.value) == expected(keys)
        return
    digests = [f"{i} {hashlib.sha256(weights.astype('<f4').tobytes()).hexdigest()}" for i, weights in merged().items()]
    assert sorted(digests) == sorted(keys["merged"])
    assert [str(adapter.version), str(int(adapter.forced))] == keys["version"] + keys["forced"]
    assert [str(adapter.parameters)] == keys["parameters"]
    assert (adapter.binding is None) == ("binding" not in keys)
    if adapter.binding is not None:
        bound = adapter.binding
        interval, context, prediction, low, high = keys["binding"][0].split()
        assert [bound.interval_us, bound.context_length, bound.prediction_length] == [
            int(interval), int(context), int(prediction)
        ]  # fmt: skip
        assert [struct.pack(">f", end).hex() for end in (bound.low, bound.high)] == [low, high]
        assert [bound.code, bound.unit, bound.name] == keys["code"] + keys["unit"] + keys["signal"]
    for line in keys.get("calibrated", []):
        steps, digest = line.split()
        assert adapter.calibration is not None
        levels = np.arange(len(adapter.calibration.offsets.stored))
        quantiles = (80 + 2 * levels[None, :] + np.arange(int(steps))[:, None] / 2).astype(np.float32)[None]
        moved = calibrate(quantiles, adapter.calibration).astype("<f4")
        assert hashlib.sha256(moved.tobytes()).hexdigest() == digest


@pytest.mark.parametrize("name", of("manifest"))
def test_manifest(name: str) -> None:
    keys, payload = read(name)
    if expected(keys) != "ok":
        with pytest.raises(errors.DeviceRuntimeError) as refusal:
            Manifest.parse(payload)
        assert outcome(refusal.value) == expected(keys)
        return
    manifest = Manifest.parse(payload)
    assert [manifest.digest.hex(), str(len(manifest.tensors))] == keys["digest"] + keys["tensors"]
    assert (manifest.known_answer is None) == ("known_answer" not in keys)
    if manifest.known_answer is not None:
        answer = manifest.known_answer.as_test()
        bits = [struct.pack(">d", number).hex() for number in (answer.tolerance, widest_tolerance(answer.context))]
        numbers = np.concatenate([answer.context, answer.expected]).astype("<f4").tobytes()
        line = [str(len(answer.context)), str(len(answer.expected)), *bits, hashlib.sha256(numbers).hexdigest()]
        assert [" ".join(line)] == keys["known_answer"]


@pytest.mark.parametrize("name", of("entries"))
def test_entries(name: str) -> None:
    keys, payload = read(name)
    arguments = (int(keys[key][0]) for key in ("seed", "rows", "columns", "count"))
    assert seeded_entries(*arguments).astype("<u4").tobytes() == payload


@pytest.mark.parametrize("name", of("projection"))
def test_projection(name: str) -> None:
    keys, payload = read(name)
    arguments = (int(keys[key][0]) for key in ("seed", "stream", "rank", "width"))
    assert projection(*arguments).astype("<i2").tobytes() == payload


@pytest.mark.parametrize("name", of("quantised"))
def test_quantised(name: str) -> None:
    keys, payload = read(name)
    weights = np.frombuffer(payload, dtype="<f4").reshape([int(side) for side in keys["shape"][0].split()])
    if expected(keys) != "ok":
        with pytest.raises(errors.MergeError) as refusal:
            quantise(weights)
        assert outcome(refusal.value) == expected(keys)
        return
    integers, scales = quantise(weights)
    assert hashlib.sha256(integers.tobytes() + scales.astype("<f4").tobytes()).hexdigest() == keys["digest"][0]


@pytest.mark.parametrize("name", of("signed"))
def test_signed(name: str) -> None:
    pytest.importorskip("cryptography", reason="checks signatures with cryptography")
    keys, payload = read(name)
    key = bytes.fromhex(keys["key"][0])

    def verified() -> frozenset[bytes]:
        blob, signatures = split(payload)
        return verify(blob, signatures, [key])

    if expected(keys) == "ok":
        assert verified() == {key}
        return
    with pytest.raises(errors.SignatureError) as refusal:
        verified()
    assert outcome(refusal.value) == expected(keys)


def test_every_rule_has_a_vector() -> None:
    rules = set(re.findall(r"^\| (R\d+) \|", FORMAT_MD, flags=re.MULTILINE))
    assert rules == {keys["rule"][0] for keys in (read(name)[0] for name in PATHS) if "rule" in keys}


def test_every_kind_has_a_good_vector() -> None:
    seen: set[int] = set()
    for name in of("blob"):
        keys, payload = read(name)
        if expected(keys) == "ok":
            count = int.from_bytes(payload[12:14], "little")
            seen |= {payload[64 + 32 * i] for i in range(count)}
    assert seen == {int(kind) for kind in layout.Kind}


def test_make_writes_these_files(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography", reason="signs with cryptography")
    monkeypatch.syspath_prepend(str(FOLDER))
    made = importlib.import_module("tests.vectors.make").all_vectors()
    assert {name: path.read_bytes() for name, path in PATHS.items()} == made
