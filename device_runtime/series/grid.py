"""From measurements at any time to a regular clock, by one rule and without interpolation.

Values of one part that fall into the same bin ``[t, t + interval)`` become their median; an empty bin is NaN;
a gap of more than ``max_gap`` without a row splits the series in two. If every row already lies on its
part's own clock (first time plus whole intervals) the bins start there; otherwise they start at whole
intervals since 1970-01-01 00:00 UTC (or step 0), so that they do not depend on when a patient arrived.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.series.options import OptionError

MAX_PLACES = 500_000_000  # 2 GB of float32


@dataclass(frozen=True, kw_only=True)
class Grid:
    """S stretches laid end to end in ``value``; stretch s is ``value[begin[s]:begin[s + 1]]``."""

    value: NDArray[np.float32]  # [sum of lengths]
    begin: NDArray[np.int64]  # [S + 1]
    part: NDArray[np.int64]  # [S]
    start_us: NDArray[np.int64]  # [S]
    aligned: bool
    merged: int
    gaps: int
    filled: int  # places that some row of the file falls on


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """Rows in order of part, then time, rows of one time settled into one."""

    part: NDArray[np.int64]  # [R]
    time_us: NDArray[np.int64]  # [R], strictly rising within a part
    value: NDArray[np.float32]  # [R]
    unsorted: int
    duplicates_identical: int
    duplicates_conflicting: int


def put_in_order(
    part: NDArray[np.int64], time_us: NDArray[np.int64], value: NDArray[np.float32], *, duplicates: str = "median"
) -> Ordered:
    """Sort rows, drop repeated ones and settle those that disagree about one time: their median, mean or last.

    The last is the last in the order given. A missing value disagrees with none.
    """
    same_part = part[1:] == part[:-1]
    unsorted = int((same_part & (time_us[1:] < time_us[:-1])).sum())
    order = np.lexsort((value, time_us, part))  # NaN sorts last
    ordered = value[order]
    new = np.concatenate([[True], ~_same(part[order], time_us[order])])
    begin = np.flatnonzero(new)
    alike = (ordered[1:] == ordered[:-1]) | np.isnan(ordered[1:])
    if duplicates == "last":
        by_place = np.lexsort((np.where(np.isnan(value), -1, np.arange(len(value))), time_us, part))
        settled = value[by_place][np.append(begin[1:], len(value)) - 1]
    else:
        settled = (_means if duplicates == "mean" else _medians)(ordered, begin)
    return Ordered(
        part=part[order][begin],
        time_us=time_us[order][begin],
        value=settled,
        unsorted=unsorted,
        duplicates_identical=int((~new[1:] & alike).sum()),
        duplicates_conflicting=int((~new[1:] & ~alike).sum()),
    )


def conflicts(*keys: NDArray[np.int64], value: NDArray[np.float32]) -> tuple[int, int]:
    """Return how many observed values ``[R]`` have another one with the same ``keys``, and the row of the first."""
    rows = np.flatnonzero(~np.isnan(value))
    order = rows[np.lexsort([value[rows], *(key[rows] for key in reversed(keys))])]  # type: ignore[arg-type]
    differ = _same(*(key[order] for key in keys)) & (value[order][1:] != value[order][:-1])
    return int(differ.sum()), int(order[1:][differ].min()) if differ.any() else 0


def _same(*keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each row except the first whether it has the keys of the one before."""
    same = np.ones(max(len(keys[0]) - 1, 0), dtype=bool)
    for key in keys:
        same &= key[1:] == key[:-1]
    return same


def _means(value: NDArray[np.float32], begin: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of the observed values of each run of ``value``, NaN where there is none."""
    observed = np.add.reduceat(~np.isnan(value), begin, dtype=np.int64)
    total = np.add.reduceat(np.nan_to_num(value.astype(np.float64)), begin)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float32] = (total / observed).astype(np.float32)
    return mean


def _medians(value: NDArray[np.float32], begin: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the median of the observed values of each run of ``value``, sorted within runs, NaN last."""
    if len(begin) == len(value):
        return value
    observed = np.add.reduceat(~np.isnan(value), begin, dtype=np.int64)
    low = begin + np.maximum(observed - 1, 0) // 2
    high = begin + observed // 2
    middle: NDArray[np.float32] = ((value[low].astype(np.float64) + value[high]) / 2).astype(np.float32)
    return middle


def common_interval(rows: Ordered) -> int | None:
    """Return the commonest step between rows of one part in microseconds; None when no part has two rows."""
    steps = np.diff(rows.time_us)[rows.part[1:] == rows.part[:-1]]
    if not len(steps):
        return None
    sizes, counts = np.unique(steps, return_counts=True)
    return int(sizes[np.argmax(counts)])


def off_clock(rows: Ordered, interval_us: int) -> NDArray[np.bool_]:
    """Return for each row whether it is not a whole number of intervals after its part's first, ``[R]``."""
    off: NDArray[np.bool_] = (rows.time_us - rows.time_us[_first_of_part(rows.part)]) % interval_us != 0
    return off


def _first_of_part(part: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the place of the first row of its part, ``[R]``."""
    new = np.concatenate([[True], part[1:] != part[:-1]])
    return np.maximum.accumulate(np.where(new, np.arange(len(part)), 0))


def lay_on_grid(rows: Ordered, *, interval_us: int, max_gap: int) -> Grid:
    """Bin rows by ``interval_us``; cut where more than ``max_gap`` intervals pass without a row.

    Raises `OptionError` when the clock would need more than `MAX_PLACES`.
    """
    aligned = not off_clock(rows, interval_us).any()
    origin = rows.time_us[_first_of_part(rows.part)] if aligned else np.zeros_like(rows.time_us)
    bins = (rows.time_us - origin) // interval_us  # [R]
    order = np.lexsort((rows.value, bins, rows.part))
    part, bins, value, origin = rows.part[order], bins[order], rows.value[order], origin[order]
    first = np.concatenate([[True], (part[1:] != part[:-1]) | (bins[1:] != bins[:-1])])
    begin = np.flatnonzero(first)
    observed = ~np.isnan(value)
    merged = int(np.maximum(np.add.reduceat(observed, begin, dtype=np.int64) - 1, 0).sum())
    value, part, bins, origin = _medians(value, begin), part[begin], bins[begin], origin[begin]

    new_part = part[1:] != part[:-1]
    cut = ~new_part & (np.diff(bins) > max_gap)
    starts = np.flatnonzero(np.concatenate([[True], new_part | cut]))  # [S]
    ends = np.append(starts[1:], len(part)) - 1
    lengths = bins[ends] - bins[starts] + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])  # [S + 1]
    if offsets[-1] > MAX_PLACES:
        raise OptionError(
            f"{offsets[-1]} places on a clock of {interval_us / 1e6:g} s are more than {MAX_PLACES}",
            hint="is --interval finer than the file's, or max_gap too long?",
        )
    flat = np.full(int(offsets[-1]), np.nan, dtype=np.float32)
    stretch = np.repeat(np.arange(len(starts)), ends - starts + 1)
    flat[offsets[:-1][stretch] + bins - bins[starts][stretch]] = value
    return Grid(
        value=flat,
        begin=offsets,
        part=part[starts],
        start_us=origin[starts] + bins[starts] * interval_us,
        aligned=aligned,
        merged=merged,
        gaps=int(cut.sum()),
        filled=len(value),
    )
