import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_runtime.format import delta as module
from device_runtime.format.delta import Delta, Fourier, Gain, LowRank, Numbers, Vera, apply_delta
from device_runtime.format.generator import seeded_entries, words
from tests.support.adapters import SHAPE, deltas, exact, example_deltas


def fft(delta: Fourier) -> np.ndarray:
    spectrum = np.zeros(delta.shape)
    spectrum.flat[delta.entries] = delta.coefficients.values
    return np.fft.ifft2(spectrum).real * delta.scaling


@pytest.mark.parametrize("shape", [(256, 256), (64, 16), (7, 12), (576, 256)])
def test_fourier_is_the_inverse_transform_of_its_spectrum(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    count = min(160, shape[0] * shape[1] // 2)
    delta = Fourier(
        rows=shape[0], columns=shape[1], coefficients=Numbers.of(rng.normal(size=count)), scaling=150.0, seed=777
    )
    expected = fft(delta)
    # Cosines have 15 bits: as fine as the coefficients themselves.
    assert np.abs(delta.dense() - expected).max() <= 4e-5 * np.abs(expected).max()


@given(deltas())
@settings(max_examples=60, deadline=None)
def test_sums_are_exact_integers_so_order_cannot_matter(delta: Delta) -> None:
    """Evaluate FORMAT.md §6 in exact arithmetic and round where it says: the bits must agree."""
    base = np.random.default_rng(1).normal(size=delta.shape).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(delta.dense(base), exact(delta, base))


def test_splitting_coefficients_by_bytes_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    delta = Fourier(rows=32, columns=48, coefficients=Numbers.of(rng.normal(size=100)), scaling=150.0, seed=5)
    whole = delta.dense()
    high_low = lambda stored: [  # noqa: E731
        (np.divmod(stored, 256)[0].astype(float), 256.0),
        (np.divmod(stored, 256)[1].astype(float), 1.0),
    ]
    monkeypatch.setattr(module, "_exact_parts", high_low)
    np.testing.assert_array_equal(delta.dense(), whole)


def test_zero_coefficients_are_the_identity() -> None:
    for delta in (
        Fourier(rows=8, columns=8, coefficients=Numbers.of(np.zeros(5)), scaling=150.0, seed=1),
        LowRank(a=Numbers.of(np.ones((2, 8))), b=Numbers.of(np.zeros((8, 2))), scaling=8.0),
        Vera(d=Numbers.of(np.ones(2)), b=Numbers.of(np.zeros(8)), columns=8, seed=1, scaling=1.0),
    ):
        assert not delta.dense().any()


def test_a_gain_of_zero_is_the_identity_to_the_bit() -> None:
    weights = np.array([[1.5, -0.0, 3e38], [1e-45, 0.0, -7.25]], dtype=np.float32)
    delta = Gain(rows=2, columns=3, numbers=Numbers.of(np.zeros(2)), of_rows=True)
    assert apply_delta(weights, delta).tobytes() == weights.tobytes()


def test_a_gain_multiplies_the_rows_or_the_columns_of_the_base() -> None:
    weights = np.array([[1, 2, 4], [8, 16, 32]], dtype=np.float32)
    of_rows = Gain(rows=2, columns=3, numbers=Numbers(np.array([1, -2], dtype=np.int8), 0.5), of_rows=True)
    of_columns = Gain(rows=2, columns=3, numbers=Numbers(np.array([2, 0, -4], dtype=np.int16), 0.25), of_rows=False)
    np.testing.assert_array_equal(apply_delta(weights, of_rows), [[1.5, 3, 6], [0, 0, 0]])
    np.testing.assert_array_equal(apply_delta(weights, of_columns), [[1.5, 2, 0], [12, 16, 0]])


@pytest.mark.parametrize(("numbers", "of_rows"), [(np.zeros(3), True), (np.zeros(2), False), (np.zeros((2, 1)), True)])
def test_a_gain_has_one_number_for_each_row_or_column(numbers: np.ndarray, of_rows: bool) -> None:
    with pytest.raises(ValueError, match="want"):
        Gain(rows=2, columns=3, numbers=Numbers.of(numbers), of_rows=of_rows)
    with pytest.raises(ValueError, match="float32"):
        Gain(rows=2, columns=3, numbers=Numbers.of(np.zeros(2), "float32"), of_rows=True)


def test_fourier_is_linear_in_its_coefficients() -> None:
    base = example_deltas()["fourier"]
    double = Fourier(
        rows=SHAPE[0],
        columns=SHAPE[1],
        coefficients=Numbers(base.coefficients.stored, base.coefficients.scale * 2),
        scaling=base.scaling,
        seed=base.seed,
    )
    np.testing.assert_array_equal(double.dense(), 2 * base.dense())


@pytest.mark.slow
def test_no_cosine_in_the_table_lies_near_a_rounding_tie() -> None:
    """So that every C library's cosine gives the same integer, for every size up to the format's limit."""
    nearest = 1.0
    for period in range(1, 8_193):
        angle = np.longdouble(2) * np.arccos(np.longdouble(-1)) * np.arange(period // 4 + 1) / period
        for wave in (np.cos(angle), np.sin(angle)):
            value = np.abs(wave * 2**15)
            fraction = np.abs(value - np.floor(value) - np.longdouble(0.5))
            nearest = min(nearest, float(fraction.min()))
    assert nearest > 1e-9


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), st.sampled_from(["int16", "int8"]))
def test_rounding_numbers_is_off_by_half_a_step_at_most(values: list[float], dtype: str) -> None:
    numbers = Numbers.of(np.array(values), dtype)
    assert np.abs(numbers.values - values).max() <= 0.5 * numbers.scale * (1 + 1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Numbers.of(np.array([1.0, bad]))


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 40), st.data())
def test_seeded_entries_are_distinct_ascending_and_inside(
    seed: int, rows: int, columns: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, rows * columns // 2))
    entries = seeded_entries(seed, rows, columns, count)
    assert len(entries) == count
    assert (np.diff(entries.astype(np.int64)) > 0).all()
    assert entries[-1] < rows * columns


def test_the_generator_is_the_one_of_the_format() -> None:
    """Plain Python integers, as FORMAT.md §5 writes it."""

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    def word(seed: int, stream: int, i: int) -> int:
        return mix((mix(seed + stream * 2**32) + (i + 1) * 0x9E3779B97F4A7C15) % 2**64)

    got = words(777, 1, np.arange(50, dtype=np.uint64)).tolist()
    assert got == [word(777, 1, i) for i in range(50)]
    chosen: list[int] = []
    i = 0
    while len(chosen) < 30:
        candidate = ((word(9, 1, i) >> 32) * 100) >> 32
        if candidate not in chosen:
            chosen.append(candidate)
        i += 1
    assert seeded_entries(9, 10, 10, 30).tolist() == sorted(chosen)


def test_more_entries_than_the_generator_gives_are_refused() -> None:
    with pytest.raises(ValueError, match="want 1 to 32"):
        seeded_entries(0, 8, 8, 33)
