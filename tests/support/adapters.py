"""Adapters to test with: hypothesis strategies and one good example of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from device_runtime.format.adapter import Adapter, Calibration, KnownAnswer
from device_runtime.format.binding import Binding, CodeSystem
from device_runtime.format.delta import Delta, Dense, Fourier, Gain, LowRank, Numbers, Vera
from device_runtime.format.generator import STREAM_VERA_A, STREAM_VERA_B, projection

SHAPE = (12, 8)


def every_kind(rows: int, columns: int, numbers: Callable[..., Numbers], draw: np.random.Generator) -> dict[str, Delta]:
    """A delta of each kind for a ``[rows, columns]`` tensor, of the numbers that ``numbers(*shape)`` makes.

    A single number has no seeded entries.
    """
    size = rows * columns
    spots = np.sort(draw.choice(size, min(size, 50), replace=False)).astype(np.uint32)
    shape: dict[str, Any] = {"rows": rows, "columns": columns}
    wide = {**shape, "scaling": float(size)}
    made: dict[str, Delta] = {
        "dense": Dense(numbers(rows, columns)),
        "fourier": Fourier(**wide, coefficients=numbers(max(1, min(size // 2, 100))), seed=2024),
        "fourier explicit": Fourier(**wide, coefficients=numbers(len(spots)), explicit=spots),
        "low rank": LowRank(a=numbers(3, columns), b=numbers(rows, 3), scaling=float(np.float32(1.7))),
        "vera": Vera(d=numbers(5), b=numbers(rows), columns=columns, seed=9, scaling=float(np.float32(-3.3))),
        "gain of rows": Gain(**shape, numbers=numbers(rows), of_rows=True),
        "gain of columns": Gain(**shape, numbers=numbers(columns), of_rows=False),
    }
    return {name: delta for name, delta in made.items() if size > 1 or name != "fourier"}


def example_deltas(seed: int = 0) -> dict[str, Delta]:
    """One delta of each kind for a [12, 8] tensor, with every stored type somewhere."""
    rng = np.random.default_rng(seed)
    rows, columns = SHAPE
    return {
        "dense float32": Dense(Numbers.of(rng.normal(size=SHAPE), "float32")),
        "dense int16": Dense(Numbers.of(rng.normal(size=SHAPE), "int16")),
        "fourier": Fourier(
            rows=rows, columns=columns, coefficients=Numbers.of(rng.normal(size=9)), scaling=150.0, seed=7
        ),
        "fourier explicit": Fourier(
            rows=rows,
            columns=columns,
            coefficients=Numbers.of(rng.normal(size=3), "int8"),
            scaling=2.5,
            explicit=np.array([0, 17, 95], dtype=np.uint32),
        ),
        "low rank": LowRank(
            a=Numbers.of(rng.normal(size=(2, columns))), b=Numbers.of(rng.normal(size=(rows, 2))), scaling=8.0
        ),
        "vera": Vera(
            d=Numbers.of(rng.normal(size=4)), b=Numbers.of(rng.normal(size=rows)), columns=columns, seed=3, scaling=1.0
        ),
        "gain": Gain(rows=rows, columns=columns, numbers=Numbers.of(rng.normal(size=columns)), of_rows=False),
    }


def example_binding(**changes: object) -> Binding:
    """What an hourly adapter for mean arterial pressure is for."""
    known: dict[str, object] = {
        "name": "MAP", "code_system": CodeSystem.LOINC, "code": "8478-0", "unit": "mm[Hg]",
        "interval_us": 3_600_000_000, "context_length": 48, "prediction_length": 6, "low": 14.0, "high": 330.0,
    }  # fmt: skip
    return Binding(**(known | changes))  # type: ignore[arg-type]


def example_adapter() -> Adapter:
    """An adapter with a delta of every kind and every extra record."""
    rng = np.random.default_rng(1)
    return Adapter(
        base_digest=bytes(range(32)),
        version=7,
        deltas=dict(enumerate(example_deltas().values())),
        known_answer=KnownAnswer(
            context=rng.normal(80, 5, 16).astype(np.float32),
            expected=rng.normal(80, 5, 18).astype(np.float32),
            tolerance=float(np.float32(0.01)),
        ),
        calibration=Calibration(offsets=Numbers.of(rng.normal(0, 0.1, (9, 6)), "int8")),
        metadata={"method": "fourierft"},
        binding=example_binding(),
    )


def numbers(shape: tuple[int, ...], dtypes: tuple[str, ...] = ("int16", "int8")) -> st.SearchStrategy[Numbers]:
    """Stored numbers of a shape."""
    value = st.floats(-1e3, 1e3, width=32)
    size = int(np.prod(shape))
    return st.builds(
        lambda values, dtype: Numbers.of(np.array(values).reshape(shape), dtype),
        st.lists(value, min_size=size, max_size=size),
        st.sampled_from(dtypes),
    )


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    """Any delta of a small shape."""
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(2, 9))
    scaling = draw(st.floats(-100, 100, width=32))
    kind = draw(st.sampled_from(["dense", "fourier", "explicit", "low_rank", "vera", "gain"]))
    size = rows * columns
    if kind == "dense":
        return Dense(draw(numbers((rows, columns), ("float32", "int16", "int8"))))
    if kind == "fourier":
        count = draw(st.integers(1, size // 2))
        seed = draw(st.integers(0, 2**32 - 1))
        return Fourier(rows=rows, columns=columns, coefficients=draw(numbers((count,))), scaling=scaling, seed=seed)
    if kind == "explicit":
        entries = sorted(draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=size)))
        chosen = np.array(entries, dtype=np.uint32)
        return Fourier(
            rows=rows, columns=columns, coefficients=draw(numbers((len(entries),))), scaling=scaling, explicit=chosen
        )
    if kind == "gain":
        of_rows = draw(st.booleans())
        made = draw(numbers((rows if of_rows else columns,)))
        return Gain(rows=rows, columns=columns, numbers=made, of_rows=of_rows)
    rank = draw(st.integers(1, 4))
    dtype = (draw(st.sampled_from(["int16", "int8"])),)
    if kind == "low_rank":
        return LowRank(a=draw(numbers((rank, columns), dtype)), b=draw(numbers((rows, rank), dtype)), scaling=scaling)
    return Vera(
        d=draw(numbers((rank,), dtype)),
        b=draw(numbers((rows,), dtype)),
        columns=columns,
        seed=draw(st.integers(0, 2**32 - 1)),
        scaling=scaling,
    )


def exact(delta: Delta, base: np.ndarray) -> np.ndarray:
    """What FORMAT.md §6 says that a delta adds: whole numbers or fractions, rounded to a double where it says."""
    rows, columns = delta.shape
    if isinstance(delta, Fourier):
        gain = (delta.coefficients.scale * delta.scaling) / (rows * columns * 2.0**30)
        cosine = [[round(2**15 * math.cos(2 * math.pi * j / m)) for j in range(m)] for m in (rows, columns)]
        sine = [[round(2**15 * math.sin(2 * math.pi * j / m)) for j in range(m)] for m in (rows, columns)]
        total = np.zeros((rows, columns))
        for p in range(rows):
            for q in range(columns):
                whole = 0
                for c, entry in zip(delta.coefficients.stored.tolist(), delta.entries.tolist(), strict=True):
                    u, v = p * (entry // columns) % rows, q * (entry % columns) % columns
                    whole += c * (cosine[0][u] * cosine[1][v] - sine[0][u] * sine[1][v])
                total[p, q] = float(Fraction(whole))
        return total * gain
    if isinstance(delta, LowRank):
        whole = delta.b.stored.astype(object) @ delta.a.stored.astype(object)
        return whole.astype(np.float64) * ((delta.a.scale * delta.b.scale) * delta.scaling)
    if isinstance(delta, Vera):
        rank = delta.d.stored.size
        a = projection(delta.seed, STREAM_VERA_A, rank, columns).astype(object)
        b = projection(delta.seed, STREAM_VERA_B, rank, rows).astype(object)
        whole = (b * delta.d.stored.astype(object)[:, None]).T @ a
        gain = ((delta.d.scale * delta.b.scale) * delta.scaling) / 4096**2
        return (whole.astype(np.float64) * delta.b.stored.astype(np.float64)[:, None]) * gain
    if isinstance(delta, Gain):
        values = [Fraction(int(x)) * Fraction(delta.numbers.scale) for x in delta.numbers.stored]
        exactly = [
            [Fraction(base[p, q]) * values[p if delta.of_rows else q] for q in range(columns)] for p in range(rows)
        ]
        return np.array([[float(product) for product in row] for row in exactly])
    return delta.numbers.stored.astype(np.float64) * delta.numbers.scale


def bindings() -> st.SearchStrategy[Binding]:
    """Any binding."""
    text = st.text(st.sampled_from("abcXYZ0189-_.:/[]{}"), min_size=1, max_size=32)
    ends = st.tuples(st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False))
    return st.builds(
        lambda name, code, unit, interval, lengths, ends: Binding(
            name=name,
            code_system=CodeSystem.LOINC if code else CodeSystem.NONE,
            code=code,
            unit=unit,
            interval_us=interval,
            context_length=lengths[0],
            prediction_length=lengths[1],
            low=min(ends),
            high=max(ends),
        ),
        text,
        st.one_of(st.just(""), text),
        st.one_of(st.just(""), text),
        st.integers(0, 10**15),
        st.tuples(st.integers(1, 8_192), st.integers(1, 8_192)),
        ends.filter(lambda pair: pair[0] != pair[1]),
    )


@st.composite
def adapters(draw: st.DrawFn) -> Adapter:
    """Any adapter of a few small deltas."""
    indices = draw(st.sets(st.integers(0, 4_095), min_size=1, max_size=5))
    text = st.text(st.sampled_from("abcXYZ 0189-_.:/"), max_size=12)
    return Adapter(
        base_digest=draw(st.binary(min_size=32, max_size=32)),
        version=draw(st.integers(0, 2**64 - 1)),
        deltas={index: draw(deltas()) for index in indices},
        metadata=draw(st.dictionaries(text, st.one_of(text, st.integers(-9, 9)), max_size=3)),
        forced=draw(st.booleans()),
        binding=draw(st.one_of(st.none(), bindings())),
    )
