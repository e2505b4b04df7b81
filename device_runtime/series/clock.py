"""The clock of a series: the one asked for, or the table's own where it has exactly one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_runtime.errors import InputError
from device_runtime.series.duration import say_duration
from device_runtime.series.grid import Ordered, common_interval, off_clock
from device_runtime.series.options import OptionError
from device_runtime.series.stamps import DAY_US
from device_runtime.series.times import STEP_US, Clock

# A default context: what lies further back than this tells a forecast nothing.
MAX_GAP_INTERVALS = 48


def choose_interval(source: str, item_ids: Sequence[str], rows: Ordered, clock: Clock, asked: int | None) -> int:
    """Return the interval in microseconds: the one asked for, else the table's own if it has exactly one."""
    if asked is not None:
        return asked
    own = common_interval(rows)
    if own is None:
        raise InputError(
            f"{source} has one row for each item: a series needs more", hint="is the id column right (--id-column)?"
        )
    refuse_calendar(source, rows, clock)
    text = say_interval(own, clock)
    off = off_clock(rows, own)
    if off.any():
        row = int(np.argmax(off))
        raise InputError(
            f"{source} is irregular: {int(off.sum())} of {len(off)} rows are not whole steps of {text} after "
            f"their item's first (item {item_ids[rows.part[row]]})",
            hint="say how long a step is with --interval, such as 1h: each bin gets the median of its values",
        )
    other = _other_interval(rows, own)
    if other is not None:
        part, step = other
        raise InputError(
            f"{source} mixes intervals: most rows are {text} apart, those of item {item_ids[part]} "
            f"{say_interval(step, clock)}",
            hint="say --interval (the longest of them), or read them apart",
        )
    return own


def refuse_calendar(source: str, rows: Ordered, clock: Clock) -> None:
    """Refuse stamps of months or years, which are not of one length."""
    if clock != "timestamp":
        return
    same = rows.part[1:] == rows.part[:-1]
    steps = np.diff(rows.time_us)[same]
    days = steps // DAY_US
    monthly = ((steps % DAY_US == 0) & (days >= 28) & (days % 365 != 0)).all() and len(set(days.tolist())) > 1
    if len(steps) < 2 or not (monthly or set(days.tolist()) == {365, 366}) or (steps % DAY_US).any():
        return
    months = rows.time_us.astype("datetime64[us]").astype("datetime64[M]")
    of_month = rows.time_us - months.astype("datetime64[us]").astype(np.int64)
    ends = (rows.time_us + DAY_US).astype("datetime64[us]").astype("datetime64[M]")
    at_end = (rows.time_us + DAY_US - ends.astype("datetime64[us]").astype(np.int64)) < DAY_US
    if len(set(of_month.tolist())) == 1 or at_end.all():
        raise InputError(
            f"{source}: one row a month, quarter or year: these have no one length and are not supported",
            hint="number the steps in place of the dates (0, 1, 2 ...); a forecast then counts steps",
        )


def _other_interval(rows: Ordered, own: int) -> tuple[int, int] | None:
    """Return a part most of whose steps are one other interval, and that interval in microseconds."""
    same = rows.part[1:] == rows.part[:-1]
    owner, steps = rows.part[1:][same], np.diff(rows.time_us)[same]
    total = np.bincount(owner)
    agreeing = np.bincount(owner[steps == own], minlength=len(total))
    for part in np.flatnonzero((total >= 4) & (agreeing * 2 < total)):
        sizes, counts = np.unique(steps[owner == part], return_counts=True)
        if counts.max() * 2 > total[part]:
            return int(part), int(sizes[np.argmax(counts)])
    return None


def gap_limit(max_gap_us: int | None, interval_us: int) -> int:
    """Return how many intervals without a row one series may hold; raises `OptionError` for none."""
    if max_gap_us is None:
        return MAX_GAP_INTERVALS
    limit = max_gap_us // interval_us
    if limit < 1:
        raise OptionError(f"max_gap {say_duration(max_gap_us)} is shorter than the interval")
    return limit


def say_interval(interval_us: int, clock: Clock) -> str:
    """Return an interval as people write it: ``1h``, ``5min``; ``1 steps`` for steps of unknown length."""
    return f"{interval_us / STEP_US:g} steps" if clock == "count" else say_duration(interval_us)
