import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device_runtime.series.grid import common_interval, lay_on_grid, off_clock, put_in_order

NAN = np.nan
rows_of = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 400), st.one_of(st.just(NAN), st.integers(1, 99).map(float))),
    min_size=1,
    max_size=60,
)


def ordered(rows: list[tuple[int, int, float]]) -> object:
    part, time, value = (np.array(column) for column in zip(*rows, strict=True))
    return put_in_order(part.astype(np.int64), time.astype(np.int64), value.astype(np.float32))


@given(rows_of, st.integers(1, 50), st.integers(1, 9))
def test_every_bin_holds_the_median_of_exactly_its_values(
    rows: list[tuple[int, int, float]], interval: int, max_gap: int
) -> None:
    got = ordered(rows)
    grid = lay_on_grid(got, interval_us=interval, max_gap=max_gap)  # type: ignore[arg-type]
    merged = {}  # rows of one time first, as documented
    for part, time, value in rows:
        merged.setdefault((part, time), []).append(np.float32(value))
    at_time = {k: np.nanmedian(v) if not np.isnan(v).all() else NAN for k, v in merged.items()}
    for s in range(len(grid.part)):
        start, values = grid.start_us[s], grid.value[grid.begin[s] : grid.begin[s + 1]]
        for k, value in enumerate(values):
            low = start + k * interval
            inside = [v for (p, t), v in at_time.items() if p == grid.part[s] and low <= t < low + interval]
            inside = [v for v in inside if not np.isnan(v)]
            assert np.isnan(value) if not inside else value == np.float32(np.median(np.float32(inside).astype(float)))
    observed = sum(not np.isnan(v) for v in at_time.values())
    assert int((~np.isnan(grid.value)).sum()) + grid.merged == observed


@given(rows_of, st.randoms())
def test_the_order_of_rows_in_the_file_changes_nothing(rows: list[tuple[int, int, float]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    a, b = ordered(rows), ordered(shuffled)
    for name in ("part", "time_us", "value"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_rows_of_one_time_become_their_median_and_are_counted() -> None:
    got = ordered([(0, 10, 5.0), (0, 10, 5.0), (0, 10, 8.0), (0, 20, NAN), (0, 20, 4.0)])
    assert got.value.tolist() == [5.0, 4.0]
    assert (got.duplicates_identical, got.duplicates_conflicting) == (2, 1)  # a missing value disagrees with none


def test_an_even_number_of_values_gives_the_mean_of_the_middle_two() -> None:
    grid = lay_on_grid(ordered([(0, 0, 1.0), (0, 1, 2.0), (0, 2, 4.0), (0, 3, 9.0)]), interval_us=10, max_gap=5)
    assert grid.value.tolist() == [3.0]
    assert grid.merged == 3
    assert not grid.aligned


def test_a_regular_patient_keeps_its_own_clock() -> None:
    grid = lay_on_grid(ordered([(0, 7, 1.0), (0, 17, 2.0), (0, 37, 3.0)]), interval_us=10, max_gap=5)
    assert grid.aligned
    assert grid.start_us.tolist() == [7]
    np.testing.assert_array_equal(grid.value, np.float32([1, 2, NAN, 3]))


def test_a_gap_at_the_limit_is_bridged_with_nan_and_one_more_cuts() -> None:
    rows = [(0, 0, 1.0), (0, 30, 2.0), (0, 70, 3.0)]
    grid = lay_on_grid(ordered(rows), interval_us=10, max_gap=3)
    assert grid.gaps == 1
    assert np.diff(grid.begin).tolist() == [4, 1]
    assert grid.start_us.tolist() == [0, 70]


def test_the_commonest_step_is_the_clock_and_a_stray_row_is_off_it() -> None:
    rows = ordered([(0, 0, 1.0), (0, 10, 1.0), (0, 20, 1.0), (1, 3, 1.0), (1, 13, 1.0), (1, 18, 1.0)])
    assert common_interval(rows) == 10
    assert off_clock(rows, 10).tolist() == [False] * 5 + [True]


def test_single_rows_have_no_clock() -> None:
    assert common_interval(ordered([(0, 0, 1.0), (1, 10, 1.0)])) is None
