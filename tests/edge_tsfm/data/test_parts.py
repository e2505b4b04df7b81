"""The split by time: parts share no value, edges are common to all series, blocks are what intervals draw."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tsfm.data import Part, Series, Split, Windows, season_steps
from edge_tsfm.errors import ConfigError, DataError

HOUR = pd.Timedelta("1h")
DISJOINT: tuple[Part, ...] = ("train", "stopping", "gate", "test")


def series(length: int, *, start: str | None = "2020-01-01", first_step: int = 0, item: str = "a") -> Series:
    return Series(
        item_id=item,
        signal="load",
        interval=HOUR if start else 1.0,
        target=np.arange(length, dtype=np.float32),
        start=None if start is None else pd.Timestamp(start),
        first_step=first_step,
    )


def cut(split: Split, given: list[Series], part: Part, *, length: int = 8, horizon: int = 4) -> Windows:
    return split.windows(
        split.series(given, part),
        part,
        context_length=length,
        prediction_length=horizon,
        stride=1,
        min_observed=2,
    )


@given(
    lengths=st.lists(st.integers(1, 160), min_size=1, max_size=3),
    starts=st.lists(st.integers(0, 100), min_size=3, max_size=3),
    length=st.integers(2, 12),
    horizon=st.integers(1, 6),
    timed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_value_is_in_windows_of_two_parts_and_time_runs_forward(
    lengths: list[int], starts: list[int], length: int, horizon: int, timed: bool
) -> None:
    every = [
        series(
            count,
            start=str(pd.Timestamp("2020-01-01") + at * HOUR) if timed else None,
            first_step=0 if timed else at,
            item=f"i{n}",
        )
        for n, (count, at) in enumerate(zip(lengths, starts, strict=False))
    ]
    split = Split.of(every, "time", horizon)
    seen: dict[Part, set[int]] = {}
    for part in DISJOINT:
        windows = cut(split, every, part, length=length, horizon=horizon)
        places = [
            (starts[windows.series[n]] + windows.cutoff[n] + k)
            for n in range(len(windows))
            for k in range(-length, horizon)
            if windows.cutoff[n] + k >= 0
        ]
        seen[part] = {int(place) for place in places}
    latest = -1
    for part in DISJOINT:
        if seen[part]:
            assert min(seen[part]) > latest  # common to all series, so across them too
            latest = max(seen[part])


def test_the_edges_are_at_60_70_and_80_percent_and_contexts_lie_between_targets() -> None:
    one = series(1000)
    split = Split.of([one], "time", 4)
    assert split.edges is not None
    begin = pd.Timestamp("2020-01-01")
    assert [(pd.Timestamp(edge, unit="us") - begin) / HOUR for edge in split.edges] == [600, 700, 800]
    cutoffs = {part: cut(split, [one], part).cutoff for part in DISJOINT}
    assert (cutoffs["train"].min(), cutoffs["train"].max()) == (2, 596)
    assert (cutoffs["stopping"].min(), cutoffs["stopping"].max()) == (608, 696)
    assert (cutoffs["test"].min(), cutoffs["test"].max()) == (808, 996)
    assert set(cut(split, [one], "validation").cutoff) >= set(cutoffs["stopping"]) | set(cutoffs["gate"])


def test_blocks_of_time_are_drawn_and_shared_by_all_series() -> None:
    both = [series(1000), series(1000, item="b")]
    split = Split.of(both, "time", 20)
    windows = cut(split, both, "test")
    assert windows.unit == "block"
    assert windows.block is not None
    assert np.array_equal(windows.drawn, windows.block)
    assert len(np.unique(windows.block)) == -(-(996 - 808 + 1) // 20)
    for name in np.unique(windows.block):
        assert np.ptp(windows.cutoff[windows.block == name]) < 20
        assert set(windows.item_id[windows.block == name]) == {"a", "b"}
    assert windows.block[0] == str(pd.Timestamp("2020-01-01") + 808 * HOUR)
    half = windows.keep(windows.item_id == "b")
    assert half.block is not None
    assert len(half) == len(half.block) == len(windows) // 2


def test_a_series_that_begins_late_is_padded_and_trains_nothing() -> None:
    late = series(150, start=str(pd.Timestamp("2020-01-01") + 850 * HOUR), item="late")
    both = [series(1000), late]
    split = Split.of(both, "time", 4)
    windows = cut(split, both, "test")
    assert windows.cutoff[windows.item_id == "late"].min() == 2  # as far as min_observed lets it
    assert set(cut(split, both, "train").item_id) == {"a"}
    assert split.trained_items(both) == {"a"}


def test_a_file_that_grows_keeps_the_edges_of_the_run() -> None:
    recorded = Split.from_dict(Split.of([series(1000)], "time", 4).to_dict())
    assert recorded == Split.of([series(1000)], "time", 4)
    assert cut(recorded, [series(1500)], "train").cutoff.max() == 596
    assert cut(recorded, [series(1500)], "test").cutoff.max() == 1496


def test_by_item_patients_are_drawn_and_an_old_record_is_by_item() -> None:
    split = Split.from_dict(None)
    assert split == Split.of([series(10)], "item", 4)
    assert Split.from_dict(split.to_dict()) == split
    wards = [series(40, item=f"p{n}") for n in range(30)]
    windows = cut(split, wards, "train")
    assert windows.unit == "item"
    assert np.array_equal(windows.drawn, windows.item_id)
    parts = [set(cut(split, wards, part).item_id) for part in DISJOINT]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30


def test_a_block_shorter_than_a_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="block_length 3 is shorter than prediction_length 4"):
        cut(Split.of([series(1000)], "time", 3), [series(1000)], "test")


@pytest.mark.parametrize(
    ("season", "interval", "steps"),
    [("1d", HOUR, 24), ("1d", pd.Timedelta("5min"), 288), ("48", HOUR, 48), ("7", 1.0, 7)],
)
def test_a_season_is_a_span_of_time_or_steps(season: str, interval: pd.Timedelta | float, steps: int) -> None:
    assert season_steps(season, interval) == steps


@pytest.mark.parametrize(("season", "interval"), [("1d", 1.0), ("90min", HOUR), ("1h", HOUR), ("week", HOUR)])
def test_a_season_that_is_no_whole_number_of_steps_is_refused(season: str, interval: pd.Timedelta | float) -> None:
    with pytest.raises(ConfigError):
        season_steps(season, interval)


@pytest.mark.parametrize("timed", [True, False])
def test_edges_of_another_kind_than_the_data_are_refused(timed: bool) -> None:
    split = Split.from_dict(Split.of([series(100, start="2020-01-01" if timed else None)], "time", 8).to_dict())
    other = [series(100, start=None if timed else "2020-01-01")]
    with pytest.raises(DataError, match="split by"):
        cut(split, other, "test")
