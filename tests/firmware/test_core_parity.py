"""C and Python: the same merged bits, and the same code and rule for the same wrong bytes."""

from __future__ import annotations

import random
import re
import struct
import zlib

import numpy as np
import pytest

from device_runtime.errors import DeviceRuntimeError
from device_runtime.format.adapter import Adapter, Calibration, KnownAnswer
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import Delta, Dense, Dtype, Fourier, Numbers
from tests.support.adapters import every_kind

from .core import Core

SHAPES = [(1, 1), (2, 1), (1, 7), (5, 3), (8, 8), (12, 40), (64, 32), (100, 36), (33, 257), (256, 256)]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return Core(tmp_path_factory.mktemp("core"))


def deltas_of(rows: int, columns: int, dtype: Dtype, draw: np.random.Generator) -> dict[int, Delta]:
    """One delta of each kind."""

    def numbers(*shape: int) -> Numbers:
        return Numbers.of(draw.normal(size=shape) * 10.0 ** draw.integers(-3, 3), dtype)

    made = [*every_kind(rows, columns, numbers, draw).values()]
    return dict(enumerate([*made, Dense(Numbers.of(draw.normal(size=(rows, columns)), "float32"))]))


@pytest.mark.parametrize("dtype", ["int16", "int8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_merged_bits(core: Core, shape: tuple[int, int], dtype: Dtype) -> None:
    draw = np.random.default_rng(sum(shape))
    deltas = deltas_of(*shape, dtype, draw)
    # Weights of all magnitudes, and zeros of both signs: those show the sign of a delta's zero.
    base = {i: (draw.normal(size=shape) * 10.0 ** draw.integers(-6, 3, size=shape)).astype(np.float32) for i in deltas}
    for weights in base.values():
        weights.reshape(-1)[::5] = -0.0
    ours = core.merge(encode(Adapter(base_digest=bytes(32), version=1, deltas=deltas)), base)
    for i, delta in deltas.items():
        weights = base[i].astype(np.float64)
        wanted = (weights + delta.dense(weights)).astype(np.float32)
        assert ours[i].tobytes() == wanted.tobytes(), type(delta).__name__


def test_merged_bits_beyond_2_to_53(core: Core) -> None:
    """Every coefficient at its largest: the sums of the first elements do not fit a double."""
    spots = np.arange(4096, dtype=np.uint32)
    numbers = Numbers(np.full(4096, 32767, dtype=np.int16), float(np.float32(0.37)))
    delta = Fourier(rows=64, columns=70, coefficients=numbers, scaling=1.5, explicit=spots)
    base = {0: np.random.default_rng(0).normal(size=(64, 70)).astype(np.float32)}
    ours = core.merge(encode(Adapter(base_digest=bytes(32), version=1, deltas={0: delta})), base)
    assert ours[0].tobytes() == (base[0] + delta.dense()).astype(np.float32).tobytes()


def small_blob() -> bytes:
    """A small blob with every kind of record."""
    draw = np.random.default_rng(3)

    def numbers(*shape: int, dtype: Dtype = "int8") -> Numbers:
        return Numbers.of(draw.normal(size=shape), dtype)

    spots = np.array([0, 5, 1700], dtype=np.uint32)
    wide = Fourier(rows=300, columns=6, coefficients=numbers(3), scaling=2.0, explicit=spots)
    alike = [Fourier(rows=4, columns=6, coefficients=numbers(5, dtype="int16"), scaling=2.0, seed=77) for _ in range(2)]
    others = every_kind(3, 2, numbers, draw).values()
    deltas = dict(enumerate([*others, Dense(numbers(4, 1, dtype="float32")), *alike, wide]))
    return encode(
        Adapter(
            base_digest=bytes(range(32)),
            version=3,
            deltas=deltas,
            known_answer=KnownAnswer(
                context=np.arange(3, dtype=np.float32), expected=np.arange(4, dtype=np.float32), tolerance=0.5
            ),
            calibration=Calibration(offsets=numbers(3, 2)),
            metadata={"a": {"b": [1, 2.5, -0.25, True, None]}, "t": "x y"},
        )
    )


def repaired(data: bytes | bytearray) -> bytes:
    """The bytes with the right checksum."""
    out = bytearray(data)
    out[60:64] = struct.pack("<I", zlib.crc32(bytes(out[64:]), zlib.crc32(bytes(out[:60]))))
    return bytes(out)


def same_verdict(core: Core, blob: bytes) -> None:
    """Compare code and rule."""
    try:
        decode(blob)
        wanted = (0, 0)
    except DeviceRuntimeError as error:
        rule = re.search(r"R(\d+)", str(error))
        wanted = (error.code, int(rule[1]) if rule else -1)
    code, adapter = core.decode(blob)
    assert (code, adapter.rule) == wanted, blob.hex()


def test_same_verdict_when_cut_anywhere(core: Core) -> None:
    good = small_blob()
    for size in range(len(good)):
        same_verdict(core, good[:size])
        if size >= 64:
            same_verdict(core, repaired(good[:size]))


def test_same_verdict_on_every_flipped_bit(core: Core) -> None:
    good = small_blob()
    for position in range(len(good)):
        for bit in range(8):
            changed = bytearray(good)
            changed[position] ^= 1 << bit
            same_verdict(core, bytes(changed))
            same_verdict(core, repaired(changed))


@pytest.mark.parametrize("seed", range(4))
def test_same_verdict_on_random_damage(core: Core, seed: int) -> None:
    good, draw = small_blob(), random.Random(seed)
    table = range(64, 64 + 32 * int.from_bytes(good[12:14], "little"), 4)
    words = [0, 1, 2, 5, 12, 24, 8192, 8193, 0x7F800000, 0x80000000, 0xFFFFFFFF]
    for _ in range(1500):
        changed = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            match draw.randrange(3):
                case 0:
                    changed[draw.randrange(len(changed))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
                case 1:
                    struct.pack_into("<I", changed, draw.choice(table), draw.choice(words))
                case 2:  # the metadata's text is last
                    place = draw.randrange(len(changed) - 60, len(changed))
                    changed[place] = draw.choice(b'{}[]",:0123456789.-etrufalsn \\x')
        same_verdict(core, repaired(changed))
