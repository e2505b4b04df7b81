"""The encoder in C writes the bytes that Python writes, and the check in C refuses what Python's refuses."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device_runtime.adapt.candidate import candidate_of, shift_of
from device_runtime.errors import FormatError, MergeError, SettingsError, SizeError
from device_runtime.format.adapter import Adapter, Calibration, KnownAnswer
from device_runtime.format.binding import Binding
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import Delta, Dense, Gain, Numbers
from device_runtime.format.layout import MAX_BLOB_SIZE
from tests.support.adapters import every_kind, example_binding, numbers

from .conftest import SOURCE, need, run
from .core import CAdapter

FloatArray = NDArray[np.float32]
FLOATS = ctypes.POINTER(ctypes.c_float)
BASE = bytes(range(32))


class CMoved(ctypes.Structure):
    _fields_ = [
        ("tensor", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
        ("columns", ctypes.c_uint32),
        ("shift", FLOATS),
    ]


class CBinding(ctypes.Structure):
    _fields_ = [
        ("signal", ctypes.c_char_p), ("signal_code", ctypes.c_char_p), ("unit", ctypes.c_char_p),
        ("interval_us", ctypes.c_uint64), ("context_length", ctypes.c_uint32), ("prediction_length", ctypes.c_uint32),
        ("low", ctypes.c_float), ("high", ctypes.c_float),
    ]  # fmt: skip


class COwn(ctypes.Structure):
    _fields_ = [
        ("base_digest", ctypes.c_char_p), ("parent", ctypes.POINTER(CAdapter)), ("binding", ctypes.POINTER(CBinding)),
        ("moved", ctypes.POINTER(CMoved)), ("moved_count", ctypes.c_uint32), ("generation", ctypes.c_uint64),
        ("envelope", ctypes.c_uint64), ("context", FLOATS), ("expected", FLOATS), ("context_size", ctypes.c_uint32),
        ("expected_size", ctypes.c_uint32), ("tolerance", ctypes.c_float),
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is learnt, on what."""

    parent: Adapter | None
    tensors: Sequence[tuple[int, tuple[int, int]]]
    shift: FloatArray
    binding: Binding
    answer: KnownAnswer | None = None
    generation: int = 1
    envelope: int = 7

    @property
    def parent_blob(self) -> bytes | None:
        return None if self.parent is None else encode(self.parent)

    def in_python(self) -> bytes:
        """What Python writes."""
        blob = self.parent_blob
        made = candidate_of(
            self.shift, tensors=self.tensors, parent=self.parent,
            parent_digest=None if blob is None else hashlib.sha256(blob).hexdigest(), base_digest=BASE,
            version=0 if self.parent is None else self.parent.version,
            binding=self.binding if self.parent is None else self.parent.binding, generation=self.generation,
            metadata={"envelope": self.envelope}, known_answer=self.answer,
        )  # fmt: skip
        return encode(made)


class Writer:
    """The encoder as a shared library, sanitized."""

    def __init__(self, folder: Path) -> None:
        need("cc")
        sources = [SOURCE / "etsa" / f"{name}.c" for name in ("etsa", "etsa_sha256", "etsa_write", "etsa_write_check")]
        path = folder / "libwrite.so"
        flags = ["-std=c99", "-O2", "-ffp-contract=fast", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
        done = run("cc", *flags, "-shared", "-fPIC", "-I", SOURCE / "etsa", *sources, "-o", path)
        assert done.returncode == 0, done.stderr
        self.library = ctypes.CDLL(str(path))
        self.library.etsw_breach.restype = ctypes.c_char_p
        self.library.etsw_breach.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_uint32, ctypes.c_double]

    def decode(self, blob: bytes) -> CAdapter:
        adapter = CAdapter()
        code = self.library.etsa_decode(blob, ctypes.c_size_t(len(blob)), ctypes.byref(adapter))
        assert code == 0, (code, adapter.rule, adapter.where)
        return adapter

    def write(self, case: Case, capacity: int = MAX_BLOB_SIZE) -> tuple[int, bytes]:
        """Return the code, and the bytes."""
        keep: list[Any] = [case.parent_blob]
        moved, arrays = moved_of(case.tensors, case.shift)
        keep += arrays
        bound = case.binding
        texts = [text.encode() for text in (bound.name, bound.code, bound.unit)]
        binding = CBinding(
            *texts, bound.interval_us, bound.context_length, bound.prediction_length, bound.low, bound.high
        )
        own = COwn(base_digest=BASE, moved=moved, moved_count=len(case.tensors))
        own.generation, own.envelope, own.binding = case.generation, case.envelope, ctypes.pointer(binding)
        if keep[0] is not None:
            own.parent = ctypes.pointer(self.decode(keep[0]))
        if case.answer is not None:
            context, expected = (np.ascontiguousarray(one) for one in (case.answer.context, case.answer.expected))
            keep += [context, expected]
            own.context, own.expected = (one.ctypes.data_as(FLOATS) for one in (context, expected))
            own.context_size, own.expected_size = len(context), len(expected)
            own.tolerance = case.answer.tolerance
        room = ctypes.create_string_buffer(b"\xa5" * (capacity + 16), capacity + 16)
        size = ctypes.c_uint32()
        code = self.library.etsw_write(ctypes.byref(own), room, ctypes.c_size_t(capacity), ctypes.byref(size))
        assert room.raw[capacity:] == b"\xa5" * 16
        return int(code), room.raw[: size.value]

    def breach(
        self, own: bytes, parent: bytes | None, tensors: Sequence[tuple[int, tuple[int, int]]], cap: float
    ) -> tuple[str, FloatArray]:
        """Return why it is refused, empty if it is not, and the shift."""
        moved, arrays = moved_of(tensors, np.zeros(sum(r * c for _, (r, c) in tensors), dtype=np.float32))
        under = None if parent is None else ctypes.byref(self.decode(parent))
        why = self.library.etsw_breach(ctypes.byref(self.decode(own)), under, moved, len(tensors), cap)
        return (why or b"").decode(), np.concatenate(arrays)


def moved_of(tensors: Sequence[tuple[int, tuple[int, int]]], shift: FloatArray) -> tuple[Any, list[FloatArray]]:
    ends = np.cumsum([rows * columns for _, (rows, columns) in tensors])[:-1]
    arrays = [part.copy() for part in np.split(shift, ends)]
    moved = (CMoved * max(len(tensors), 1))(
        *(
            CMoved(index, rows, columns, one.ctypes.data_as(FLOATS))
            for (index, (rows, columns)), one in zip(tensors, arrays, strict=True)
        )
    )
    return moved, arrays


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    return Writer(tmp_path_factory.mktemp("write"))


def parent_of(seed: int, tensors: Sequence[tuple[int, tuple[int, int]]], kinds: tuple[str, ...]) -> Adapter:
    """A parent with a delta of every kind, and dense ones of some of the tensors that will move."""
    draw = np.random.default_rng(seed)

    def made(*shape: int) -> Numbers:
        return Numbers.of(draw.normal(size=shape) * 0.1)

    free = [index for index in range(40) if index not in dict(tensors)]
    deltas: dict[int, Delta] = dict(zip(free[::2], every_kind(12, 8, made, draw).values(), strict=False))
    deltas[free[1]] = Dense(made(6, 1))  # a still tensor of a moved one's shape
    for (index, shape), kind in zip(tensors, kinds, strict=False):
        if kind:
            deltas[index] = Dense(Numbers.of(draw.normal(size=shape), kind))  # type: ignore[arg-type]
    return Adapter(
        base_digest=BASE, version=3, deltas=dict(sorted(deltas.items())), binding=example_binding(),
        known_answer=KnownAnswer(
            context=draw.normal(80, 5, 16).astype(np.float32), expected=draw.normal(80, 5, 18).astype(np.float32),
            tolerance=0.5,
        ),
        calibration=Calibration(offsets=Numbers.of(draw.normal(0, 0.1, (9, 6)))) if seed % 2 else None,
    )  # fmt: skip


TENSORS = ((4, (6, 1)), (7, (10, 1)), (9, (6, 1)), (21, (10, 1)))


def answer(seed: int) -> KnownAnswer:
    draw = np.random.default_rng(seed)
    context, expected = (draw.normal(80, 5, size).astype(np.float32) for size in (16, 18))
    return KnownAnswer(context=context, expected=expected, tolerance=float(np.float32(0.01 + seed)))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_the_bytes_are_pythons(writer: Writer, data: st.DataObject) -> None:
    tensors = tuple(data.draw(st.lists(st.sampled_from(TENSORS), min_size=1, unique=True).map(sorted)))
    seed = data.draw(st.integers(0, 1000))
    kinds = tuple(data.draw(st.sampled_from(["", "int16", "int8", "float32"])) for _ in tensors)
    parent = parent_of(seed, tensors, kinds) if data.draw(st.booleans()) else None
    parts = []
    for index, (rows, columns) in tensors:
        held = parent.deltas.get(index) if parent else None
        still = -held.dense(np.zeros((rows, columns))).ravel() if isinstance(held, Dense) else np.zeros(rows * columns)
        learnt = data.draw(numbers((rows * columns,), ("float32",))).values * data.draw(
            st.sampled_from([1, 1e-3, 1e-42])
        )
        parts.append(data.draw(st.sampled_from([learnt, learnt, learnt, np.zeros_like(learnt), still])))
    with np.errstate(under="ignore"):
        shift = np.concatenate(parts).astype(np.float32)
    case = Case(
        parent=parent, tensors=tensors, shift=shift, binding=example_binding(),
        generation=data.draw(st.integers(0, 10**18 - 1)),
        answer=answer(seed) if data.draw(st.booleans()) else None, envelope=data.draw(st.integers(0, 10**18 - 1)),
    )  # fmt: skip
    try:
        wanted = case.in_python()
    except MergeError:
        assert writer.write(case)[0] == MergeError.code
        return
    code, got = writer.write(case)
    assert (code, got) == (0, wanted)
    assert writer.write(case, capacity=len(wanted))[0] == 0
    assert writer.write(case, capacity=len(wanted) - 1)[0] == 400
    own, blob = decode(wanted), case.parent_blob
    why, found = writer.breach(wanted, blob, tensors, cap=1e9)
    assert why == ""
    np.testing.assert_array_equal(found, shift_of(own, parent, tensors))


@pytest.mark.parametrize(
    "binding",
    [
        example_binding(),
        Binding(name="own signal", context_length=8_192, prediction_length=1),
        Binding(name="x" * 64, unit="u" * 32, interval_us=10**15, context_length=1, prediction_length=8_192, low=-1.5),
    ],
    ids=["MAP", "bare", "longest"],
)
def test_the_base_alone_is_bound_as_in_python(writer: Writer, binding: Binding) -> None:
    shift = np.linspace(-0.1, 0.1, 6, dtype=np.float32)
    case = Case(parent=None, tensors=TENSORS[:1], shift=shift, binding=binding, answer=answer(0))
    assert writer.write(case) == (0, case.in_python())


def test_what_no_blob_can_hold_is_refused(writer: Writer) -> None:
    shift = np.linspace(-0.1, 0.1, 6, dtype=np.float32)
    good = Case(parent=None, tensors=TENSORS[:1], shift=shift, binding=example_binding())
    for number in (np.nan, np.inf):
        assert (
            writer.write(replace(good, shift=np.where(shift > 0.09, np.float32(number), shift)))[0] == MergeError.code
        )
    assert writer.write(replace(good, shift=np.zeros_like(shift)))[0] == MergeError.code
    both = np.concatenate([shift, shift])
    for tensors in ((TENSORS[2], TENSORS[0]), (TENSORS[0], TENSORS[0])):
        assert writer.write(replace(good, tensors=tensors, shift=both))[0] == SettingsError.code
    assert writer.write(replace(good, generation=10**18))[0] == SizeError.code
    for bad in (replace(answer(0), tolerance=-1.0), replace(answer(0), expected=np.full(3, np.nan, dtype=np.float32))):
        assert writer.write(replace(good, answer=bad))[0] == FormatError.code
    gain = Gain(rows=6, columns=1, numbers=Numbers.of(np.ones(6)), of_rows=True)
    parent = parent_of(1, TENSORS[:1], ("",))
    other = replace(parent, deltas={**parent.deltas, 4: gain})
    assert writer.write(replace(good, parent=other))[0] == MergeError.code
    assert writer.write(replace(good, parent=replace(parent, binding=None)))[0] == SettingsError.code


def test_a_blob_that_does_more_than_learning_is_found(writer: Writer) -> None:
    """Each change that Python's check refuses, with and without a parent."""
    for parent in (None, parent_of(1, TENSORS, ("int16", "", "float32"))):
        shift = np.linspace(-0.1, 0.1, 32, dtype=np.float32)
        case = Case(parent=parent, tensors=TENSORS, shift=shift, binding=example_binding(), answer=answer(1))
        own, under = decode(case.in_python()), case.parent_blob
        rms = max(float(np.sqrt(np.mean(part**2))) for part in np.split(shift, [6, 16, 22]))

        def why(adapter: Adapter, cap: float = 1.0, on: bytes | None = under) -> str:
            return writer.breach(encode(adapter), on, TENSORS, cap)[0]

        assert why(own) == ""
        assert why(own, rms * 1.0001) == ""
        assert "further than the envelope" in why(own, rms * 0.99)
        still = {5: Dense(Numbers.of(np.ones((6, 1))))}
        assert "more than the tensors" in why(replace(own, deltas={**own.deltas, **still}))
        offsets = Calibration(offsets=Numbers.of(np.full((9, 6), 0.2)))
        assert "more than the tensors" in why(replace(own, calibration=offsets))
        assert "another version" in why(replace(own, version=own.version + 1))
        assert "another version" in why(replace(own, forced=True))
        for said in ({}, {"origin": "device"}, {**own.metadata, "parent": "0" * 64}, {**own.metadata, "origin": "x"}):
            assert "learnt here" in why(replace(own, metadata=said or {"a": 1}))
        wider = {**own.deltas, 4: Gain(rows=6, columns=1, numbers=Numbers.of(np.ones(6)), of_rows=True)}
        assert "something else than a number" in why(replace(own, deltas=wider))
        if parent is None:
            assert "learnt here" in why(own, on=encode(parent_of(1, TENSORS, ())))
            continue
        assert "something else than its parent" in why(replace(own, binding=example_binding(low=13.0)))
        first = next(index for index in own.deltas if index not in dict(TENSORS))
        fewer = {index: delta for index, delta in own.deltas.items() if index != first}
        assert "more than the tensors" in why(replace(own, deltas=fewer))
