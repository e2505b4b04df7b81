"""Python and C on mutants whose structure is kept: one verdict, one rule, the same values, merged bits and uses."""

from __future__ import annotations

import ctypes
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.errors import DeviceRuntimeError, FormatError, SignalMismatchError
from device_runtime.forecast.known_answer import widest_tolerance
from device_runtime.format.adapter import Adapter
from device_runtime.format.binding import DIFFERENCES, Use, check, differences
from device_runtime.format.blob import decode, encode
from device_runtime.format.envelope import split, verify
from device_runtime.format.manifest import MAX_MANIFEST_SIZE, Manifest
from device_runtime.format.parameters import flag, number, whole

from . import mutate
from .core import CAdapter, CFile, CGraph, Core, CTensor, CUse
from .dummy import bind

VECTORS = Path(__file__).parents[1] / "vectors"
CASES = Path(__file__).parents[3] / "shared" / "cases" / "formats"
MOST_MERGED = 4_096  # elements of a tensor that is merged: larger ones cost time and show nothing more
MOST_SEED = 1_500  # bytes of a blob to mutate: in a larger one most changes hit a number


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    pytest.importorskip("cryptography", reason="verifies signatures")
    return Core(tmp_path_factory.mktemp("core"))


def payloads(what: str) -> list[bytes]:
    """The bytes of every good vector of that kind, the smaller ones."""
    found = []
    for path in sorted(VECTORS.rglob("*.vec")):
        head, payload = path.read_bytes().split(b"\n\n", 1)
        lines = head.decode("ascii").split("\n")
        if f"what: {what}" in lines and "expect: ok" in lines and len(payload) <= MOST_SEED:
            found.append(payload)
    assert found
    return found


def verdict(error: DeviceRuntimeError | None) -> tuple[int, int]:
    """Code, and the rule that the message begins with."""
    if error is None:
        return 0, 0
    rule = re.search(r"\bR(\d+):", str(error))
    return error.code, int(rule[1]) if rule else -1


# --- blobs ---------------------------------------------------------------------------------------------------------


def same_blob(core: Core, blob: bytes, draw: random.Random) -> int:
    """Compare everything that both say of a blob; return the code."""
    adapter, error = None, None
    try:
        adapter = decode(blob)
    except DeviceRuntimeError as refused:
        error = refused
    code, ours = core.decode(blob)
    assert (code, ours.rule) == verdict(error), (error, blob.hex())
    if adapter is None:
        return code
    assert encode(adapter) == blob, blob.hex()
    same_fields(adapter, ours)
    same_uses(core, adapter, ours, draw)
    same_merge(core, adapter, blob)
    return code


def same_fields(adapter: Adapter, ours: CAdapter) -> None:
    """What a decoded adapter says of itself."""
    assert (ours.version, ours.forced, ours.delta_count) == (adapter.version, adapter.forced, len(adapter.deltas))
    assert ours.parameters == adapter.parameters
    answer, calibration, binding = adapter.known_answer, adapter.calibration, adapter.binding
    sizes = (len(answer.context), len(answer.expected)) if answer else (0, 0)
    assert (ours.context_size, ours.expected_size) == sizes
    assert answer is None or ours.tolerance == answer.tolerance
    shape = calibration.offsets.stored.shape if calibration else (0, 0)
    assert (ours.calibration_levels, ours.calibration_steps) == shape
    if binding is None:
        assert ours.signal.size == 0
        return
    texts = (ours.signal.bytes(), ours.signal_code.bytes(), ours.unit.bytes())
    assert texts == (binding.name.encode(), binding.code.encode(), binding.unit.encode())
    lengths = (ours.interval_us, ours.context_length, ours.prediction_length)
    assert lengths == (binding.interval_us, binding.context_length, binding.prediction_length)
    assert (ours.low, ours.high) == (binding.low, binding.high)


def same_uses(core: Core, adapter: Adapter, ours: CAdapter, draw: random.Random) -> None:
    """Which uses an adapter is for, and in what the others differ."""
    binding = adapter.binding
    name, code, unit = (binding.name, binding.code, binding.unit) if binding else ("MAP", "8478-0", "mm[Hg]")
    interval = binding.interval_us if binding else 0
    lengths = (binding.context_length, binding.prediction_length) if binding else (1, 1)
    for _ in range(2):
        use = Use(
            signal=draw.choice(
                [None, name, name.swapcase(), f" {name} ", code, code.lower(), f"{name}x", name[:-1], ""]
            ),
            unit=draw.choice([None, "", unit, unit.swapcase(), f"{unit} "]),
            interval_us=draw.choice([None, 0, interval, interval + 1, 1]),
            context_length=max(0, lengths[0] + draw.choice([-1, 0, 1])),
            prediction_length=max(0, lengths[1] + draw.choice([-1, 0, 1])),
        )
        given = CUse(
            None if use.signal is None else use.signal.encode(), None if use.unit is None else use.unit.encode(),
            use.interval_us or 0, use.context_length or 0, use.prediction_length or 0,
        )  # fmt: skip
        accepted = draw.sample(DIFFERENCES, draw.randint(0, 2))
        bits = sum(1 << DIFFERENCES.index(one) for one in accepted)
        wanted: tuple[str, ...] = tuple(differences(binding, use)) if binding else ()
        refused = False
        try:
            if binding:
                check(binding, use, accepted)
        except SignalMismatchError:
            refused = True
        got, found = core.is_for(ours, given, bits)
        names = tuple(one for place, one in enumerate(DIFFERENCES) if found & 1 << place)
        if "signal" in names and "signal" not in wanted and binding and use.signal:
            # Python knows other names of a coded signal (FORMAT.md §4); those of a vital sign may be one letter away.
            assert binding.is_signal(use.signal)
            continue
        assert (names, got == 330) == (wanted, refused), (binding, use, accepted)


def same_merge(core: Core, adapter: Adapter, blob: bytes) -> None:
    """Merged weights, to the bit."""
    draw = np.random.default_rng(len(blob))
    if any(delta.shape[0] * delta.shape[1] > MOST_MERGED for delta in adapter.deltas.values()):
        return
    base = {i: draw.normal(size=delta.shape).astype(np.float32) for i, delta in adapter.deltas.items()}
    wanted: dict[int, np.ndarray | None] = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for i, delta in adapter.deltas.items():
            weights = base[i].astype(np.float64)
            made = (weights + delta.dense(weights)).astype(np.float32)
            wanted[i] = made if np.isfinite(made).all() else None
    got = core.merge(blob, base, may_refuse=True)
    for i, made in wanted.items():
        ours = got[i]
        assert (ours is None) == (made is None), (i, blob.hex())
        assert made is None or ours is None or ours.tobytes() == made.tobytes(), (i, blob.hex())


# --- manifests -----------------------------------------------------------------------------------------------------


def same_manifest(core: Core, data: bytes) -> int:
    """Compare everything that both say of a manifest; return the code."""
    manifest, error = None, None
    try:
        manifest = Manifest.parse(data)
    except DeviceRuntimeError as refused:
        error = refused
    code, ours = core.bundle(data)
    assert code == verdict(error)[0], (error, data)
    if manifest is None:
        return code
    assert bytes(ours.digest) == manifest.digest
    assert [t.bytes().decode() for t in (ours.name, ours.family, ours.precision)] == [
        manifest.name, manifest.family, manifest.precision,
    ]  # fmt: skip
    lengths = (ours.context_length, ours.prediction_length)
    assert lengths == (manifest.context_length, manifest.prediction_length)
    levels = (ctypes.c_double * ours.level_count)()
    assert core.library.etsa_bundle_levels(ctypes.byref(ours), levels, ours.level_count) == 0
    assert tuple(levels) == manifest.quantile_levels
    tensors = (CTensor * (ours.tensor_count + 1))()
    assert core.library.etsa_bundle_tensors(ctypes.byref(ours), tensors, ours.tensor_count) == 0
    table = [
        (t.name.bytes().decode(), (t.rows, t.columns), t.dimensions, t.offset) for t in tensors[: ours.tensor_count]
    ]
    assert table == [(e.name, e.rows_columns, len(e.shape), e.offset) for e in manifest.tensors]
    same_files_and_graphs(core, manifest, ours)
    same_parameters(core, manifest, ours)
    same_answer(core, manifest, ours)
    return code


def same_answer(core: Core, manifest: Manifest, ours: Any) -> None:
    """The base's own known answer, to the bit."""
    if manifest.known_answer is None:
        assert (ours.context_size, ours.expected_size) == (0, 0)
        return
    answer = manifest.known_answer.as_test()
    context, expected = (ctypes.c_float * ours.context_size)(), (ctypes.c_float * ours.expected_size)()
    assert core.library.etsa_bundle_known_answer(ctypes.byref(ours), context, expected)
    assert ours.tolerance == answer.tolerance
    assert np.array_equal(np.array(context, dtype=np.float32), answer.context)
    assert np.array_equal(np.array(expected, dtype=np.float32), answer.expected)
    assert core.library.etsa_widest_tolerance(context, ours.context_size) == widest_tolerance(answer.context)


def same_files_and_graphs(core: Core, manifest: Manifest, ours: Any) -> None:
    """Pinned files in their order, graphs by their names."""
    file, graph = CFile(), CGraph()
    assert ours.file_count == len(manifest.files)
    for index, (name, pinned) in enumerate(sorted(manifest.files.items())):
        assert core.library.etsa_bundle_file(ctypes.byref(ours), index, ctypes.byref(file))
        got = (file.name.bytes().decode(), file.size, bytes(file.sha256).hex())
        assert got == (name, pinned.size, pinned.sha256)
    for name, wanted in manifest.graphs.items():
        assert core.library.etsa_bundle_graph(ctypes.byref(ours), name.encode(), ctypes.byref(graph))
        assert graph.file.bytes().decode() == wanted.file
        used = [i for i in range(len(manifest.tensors)) if core.library.etsa_graph_uses(ctypes.byref(graph), i)]
        assert tuple(used) == wanted.tensors


def same_parameters(core: Core, manifest: Manifest, ours: Any) -> None:
    """The family's own numbers, by each of the three ways to read one."""
    word, real, truth = ctypes.c_uint32(), ctypes.c_double(), ctypes.c_bool()
    for name in [*manifest.parameters, "nothing"]:
        for function, value, read in (
            (core.library.etsa_bundle_count, word, lambda p, n: whole(p, n, least=0, most=2**32 - 1)),
            (core.library.etsa_bundle_parameter, real, number),
            (core.library.etsa_bundle_flag, truth, flag),
        ):
            there = function(ctypes.byref(ours), name.encode(), ctypes.byref(value))
            try:
                wanted: Any = read(manifest.parameters, name)
            except FormatError:
                wanted = None
            assert (value.value if there else None) == wanted, (name, manifest.parameters)


# --- signatures ----------------------------------------------------------------------------------------------------


def signatures() -> tuple[bytes, bytes, list[bytes]]:
    """A blob, the trusted key, and good and odd signatures of it, some under another key's name."""
    from tests.vectors.odd_signatures import odd_ones

    (data,) = {payload for payload in payloads("signed") if len(payload) == min(map(len, payloads("signed")))}
    blob, _ = split(data)
    good = data[len(blob) :]
    key = next(
        bytes.fromhex(line.removeprefix("key: "))
        for line in (VECTORS / "signed" / "ok.vec").read_bytes().split(b"\n\n")[0].decode().split("\n")
        if line.startswith("key: ")
    )
    odd = odd_ones(b"edge-tsfm adapter v1\0" + blob, bytes([7]) * 32)
    return blob, key, [good, good, *(good[:16] + signature for _, _, signature in odd.values())]


def same_signatures(core: Core, data: bytes, key: bytes) -> int:
    """Compare code; return it."""
    code = 0
    try:
        blob, found = split(data)
        verify(blob, found, [key])
    except DeviceRuntimeError as refused:
        code = refused.code
    assert core.verify(data, key) == code, data.hex()
    return code


# --- runs ----------------------------------------------------------------------------------------------------------


def bound_blobs() -> list[bytes]:
    """Every kind of record in one blob, unbound and bound to a signal with code and one without."""
    from dataclasses import replace

    from .test_core_parity import small_blob

    plain = decode(small_blob())
    bindings = (None, bind(), bind("chamber 3", interval_us=0))
    return [encode(replace(plain, binding=binding)) for binding in bindings]


def differ(core: Core, seed: int, count: int) -> dict[str, Counter[int]]:
    """Compare ``count`` mutants; return how often each code came, by kind."""
    draw = random.Random(seed)
    blobs, manifests = payloads("blob") + 8 * bound_blobs(), payloads("manifest")
    blob, key, trailers = signatures()
    codes: dict[str, Counter[int]] = {"blob": Counter(), "manifest": Counter(), "signed": Counter()}
    for _ in range(count):
        chance = draw.random()
        if chance < 0.68:
            codes["blob"][same_blob(core, mutate.blob(draw.choice(blobs), blobs, draw), draw)] += 1
        elif chance < 0.95:
            codes["manifest"][same_manifest(core, mutate.manifest(draw.choice(manifests), draw))] += 1
        else:
            codes["signed"][same_signatures(core, mutate.signed(blob, trailers, draw), key)] += 1
    return codes


def deep_enough(codes: dict[str, Counter[int]]) -> None:
    """A run that is refused at the door compares nothing: each kind must be accepted and refused often."""
    for kind, wanted in (("blob", {0, 100, 102, 103, 110}), ("manifest", {0, 100, 103, 110}), ("signed", {0, 200})):
        total = sum(codes[kind].values())
        assert wanted <= set(codes[kind]), (kind, codes[kind])
        assert codes[kind][0] >= 0.05 * total, (kind, codes[kind])


def test_python_and_c_agree_on_mutants(core: Core) -> None:
    deep_enough(differ(core, seed=1, count=3_000))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_python_and_c_agree_on_a_hundred_thousand_mutants(core: Core, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(2**32)  # other ones each time; a failure prints the bytes
    codes = differ(core, seed, 100_000)
    with capsys.disabled():
        sys.stdout.write(f"\n100,000 mutants (seed {seed}), 0 differences; by code: {codes}\n")
    deep_enough(codes)


def hostile_manifests() -> dict[str, bytes]:
    """Manifests near the limit of a megabyte, each with much of one thing."""
    plain = json.loads(next(data for data in payloads("manifest") if b'"encoder.bias"' in data))
    file, room = {"sha256": "ab" * 32, "size": 1}, MAX_MANIFEST_SIZE - 2_000

    def of(**changes: Any) -> bytes:
        return json.dumps({**plain, **changes}, sort_keys=True, separators=(",", ":")).encode("ascii")

    def files(count: int, **more: Any) -> dict[str, Any]:
        return {**plain["files"], **{f"{i:06}.bin": {**file, **more} for i in range(count)}}

    def graphs(count: int, tensors: list[int]) -> dict[str, Any]:
        return {f"{i:06}": {"file": "forecast.onnx", "tensors": tensors} for i in range(count)}

    tensors = [{"name": f"t{i}", "offset": 80, "shape": [1]} for i in range(4_096)]
    return {
        "plain": of(zebra="x" * room),
        "many files": of(files=files(room // 110)),
        "many graphs": of(graphs=graphs(room // 60, [])),
        "files and graphs": of(files=files(room // 220), graphs=graphs(room // 120, [])),
        "fat files": of(files=files(62, zebra="x" * (room // 70)), graphs=graphs(16, [0, 1])),
        "fat graphs": of(tensors=tensors, graphs=graphs(16, list(range(4_096)))),
        "one tensor, often": of(graphs=graphs(1, [0] * (room // 2 - 100))),
        "many tensors": of(tensors=tensors * 5, graphs={}),
        "lists": of(zebra=[[0]] * (room // 4 - 10)),
        "levels": of(quantile_levels=[0.5] * (room // 4 - 10)),
        "keys": of(**{f"z{i:06}": 0 for i in range(room // 14)}),
    }


def test_a_manifest_takes_time_by_its_size_whatever_is_in_it(core: Core) -> None:
    """At the limit, within a small multiple of one that is one long text; files against graphs took seconds."""

    def seconds(data: bytes) -> float:
        times = []
        for _ in range(5):
            start = time.process_time()
            core.bundle(data)
            times.append(time.process_time() - start)
        return min(times)

    manifests = hostile_manifests()
    usual = seconds(manifests.pop("plain"))
    for name, data in manifests.items():
        assert len(data) <= MAX_MANIFEST_SIZE, name
        same_manifest(core, data)
        assert seconds(data) <= 20 * usual, name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("blob-two-known-answers.etsa", 100),
        ("blob-zero-scalings-of-both-signs.etsa", 100),
        ("manifest-context-length-2-32.json", 100),
        ("manifest-parameters-list.json", 100),
    ],
)
def test_cases_that_were_read_two_ways(core: Core, name: str, code: int) -> None:
    if not (CASES / name).exists():
        pytest.skip(f"{name} is not here")
    data = (CASES / name).read_bytes()
    if name.endswith(".json"):
        assert same_manifest(core, data) == code
    else:
        assert same_blob(core, data, random.Random(0)) == code
