import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_runtime.errors import (
    ChecksumError,
    DeviceRuntimeError,
    FormatError,
    SizeError,
    UnsupportedError,
)
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import blob_size, checksum, decode, encode
from device_runtime.format.delta import Delta, Dense, Fourier, Numbers
from tests.support.adapters import adapters, example_adapter


def same(a: Adapter, b: Adapter) -> bool:
    return (
        a.base_digest == b.base_digest
        and a.version == b.version
        and a.forced == b.forced
        and dict(a.metadata) == dict(b.metadata)
        and list(a.deltas) == list(b.deltas)
        and all(np.array_equal(delta.dense(base), b.deltas[i].dense(base)) for i, delta, base in with_bases(a))
    )


def with_bases(adapter: Adapter) -> Iterator[tuple[int, Delta, np.ndarray]]:
    """Each delta with some weights to add it to."""
    for index, delta in adapter.deltas.items():
        yield index, delta, np.random.default_rng(index).normal(size=delta.shape)


@given(adapters())
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_decodes_to_the_same_adapter_and_the_same_bytes(adapter: Adapter) -> None:
    blob = encode(adapter)
    decoded = decode(blob)
    assert same(adapter, decoded)
    assert encode(decoded) == blob


def test_extras_survive() -> None:
    adapter = example_adapter()
    decoded = decode(encode(adapter))
    assert decoded.known_answer is not None
    assert decoded.calibration is not None
    np.testing.assert_array_equal(decoded.known_answer.context, adapter.known_answer.context)
    np.testing.assert_array_equal(decoded.known_answer.expected, adapter.known_answer.expected)
    assert decoded.known_answer.tolerance == adapter.known_answer.tolerance
    np.testing.assert_array_equal(decoded.calibration.offsets.stored, adapter.calibration.offsets.stored)


def test_a_blob_cut_at_any_length_is_refused() -> None:
    blob = encode(example_adapter())
    for length in range(len(blob)):
        with pytest.raises(SizeError):
            decode(blob[:length])


def test_any_single_bit_flipped_anywhere_is_refused() -> None:
    blob = encode(example_adapter())
    for position in range(len(blob)):
        for bit in range(8):
            damaged = bytearray(blob)
            damaged[position] ^= 1 << bit
            with pytest.raises(DeviceRuntimeError) as caught:
                decode(bytes(damaged))
            assert caught.value.code in (100, 101, 102)


def with_checksum(blob: bytearray) -> bytes:
    blob[60:64] = checksum(bytes(blob)).to_bytes(4, "little")
    return bytes(blob)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_damage_with_a_mended_checksum_gives_an_adapter_or_a_known_error(data: st.DataObject) -> None:
    blob = bytearray(encode(example_adapter()))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    blob[8:12] = len(blob).to_bytes(4, "little")
    try:
        decoded = decode(with_checksum(blob))
    except (FormatError, UnsupportedError):
        return
    assert encode(decoded) == with_checksum(blob)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_an_adapter_or_a_known_error(data: bytes) -> None:
    with contextlib.suppress(FormatError, UnsupportedError):
        decode(data)


def test_a_damaged_blob_says_so_before_anything_else() -> None:
    blob = bytearray(encode(example_adapter()))
    blob[4] = 9  # format version
    with pytest.raises(ChecksumError, match="R4"):
        decode(bytes(blob))
    with pytest.raises(UnsupportedError, match="version 9"):
        decode(with_checksum(blob))


def test_blob_size_leaves_signatures_alone() -> None:
    blob = encode(example_adapter())
    assert blob_size(blob + b"S" * 80) == len(blob)
    with pytest.raises(SizeError, match="R3"):
        decode(blob + b"S" * 80)


def paper_adapter(sites: int, count: int) -> Adapter:
    rng = np.random.default_rng(0)
    example = example_adapter()
    return Adapter(
        base_digest=bytes(32),
        version=1,
        deltas={
            i: Fourier(rows=256, columns=256, coefficients=Numbers.of(rng.normal(size=count)), scaling=150.0, seed=777)
            for i in range(sites)
        },
        known_answer=example.known_answer,
        metadata={"target": "MAP", "method": "fourierft"},
    )


@pytest.mark.parametrize(("sites", "count"), [(24, 100), (48, 50)])
def test_the_papers_2400_numbers_fit_the_figure_to_reach(sites: int, count: int) -> None:
    adapter = paper_adapter(sites, count)
    assert adapter.parameters == 2_400
    size = len(encode(adapter))
    assert size <= 5_500
    assert size + 80 <= 5_600  # signed


def test_bitfit_of_256_numbers_fits_the_figure_to_reach() -> None:
    rng = np.random.default_rng(0)
    example = example_adapter()
    adapter = Adapter(
        base_digest=bytes(32),
        version=1,
        deltas={i: Dense(Numbers.of(rng.normal(size=(32, 4)))) for i in range(2)},
        known_answer=example.known_answer,
        metadata={"target": "MAP", "method": "bitfit"},
    )
    assert adapter.parameters == 256
    assert len(encode(adapter)) + 80 <= 1_200


def test_too_large_an_adapter_is_refused_when_it_is_written() -> None:
    values = Numbers.of(np.zeros((400, 400)), "float32")
    adapter = Adapter(base_digest=bytes(32), version=1, deltas={0: Dense(values)})
    with pytest.raises(SizeError, match="524288"):
        encode(adapter)
