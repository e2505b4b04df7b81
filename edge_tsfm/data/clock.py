"""The clock of a dataset: the one asked for, or the file's own where it has exactly one."""

from pathlib import Path

import numpy as np
import pandas as pd

from edge_tsfm.data.grid import Ordered, common_interval, off_clock
from edge_tsfm.data.samples import Samples
from edge_tsfm.data.times import STEP_US, parse_interval
from edge_tsfm.errors import ConfigError, DataError

# A default context: what lies further back than this tells a forecast nothing.
MAX_GAP_INTERVALS = 48


def interval_us(source: Path, samples: Samples, rows: Ordered, clock: pd.Timedelta | None) -> int:
    """Return the clock in microseconds: the one asked for, else the file's own if it has exactly one."""
    if clock is not None:
        return int(clock / pd.Timedelta("1us"))
    own = common_interval(rows)
    if own is None:
        raise DataError(f"{source} has one row for each item: a series needs more", hint="is the id column right?")
    text = _span(own, samples)
    off = off_clock(rows, own)
    if off.any():
        row = int(np.argmax(off))
        raise DataError(
            f"{source} is irregular: {int(off.sum())} of {len(off)} rows are not whole steps of {text} after "
            f"their item's first (item {samples.item_ids[rows.part[row]]})",
            hint=f"say --interval ({text} or longer): each bin gets the median of its values",
        )
    other = _other_interval(rows, own)
    if other is not None:
        part, step = other
        raise DataError(
            f"{source} mixes intervals: most rows are {text} apart, those of item {samples.item_ids[part]} "
            f"{_span(step, samples)}",
            hint="say --interval (the longest of them), or read them apart",
        )
    return own


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


def gap_limit(max_gap: str | pd.Timedelta | None, interval_us: int) -> int:
    """Return how many intervals without a row one series may hold; raises `ConfigError` for none."""
    if max_gap is None:
        return MAX_GAP_INTERVALS
    limit = int(parse_interval(max_gap) / pd.Timedelta("1us")) // interval_us
    if limit < 1:
        raise ConfigError(f"max_gap {max_gap} is shorter than the interval")
    return limit


def season_steps(season: str, interval: pd.Timedelta | float) -> int:
    """Return a season in steps; ``season`` is a span of time (``1d``) or, as a plain number, steps.

    Raises `ConfigError` for a span that is no whole number of at least two steps.
    """
    if season.isdigit():
        steps = float(season)
    elif isinstance(interval, pd.Timedelta):
        steps = parse_interval(season) / interval
    else:
        raise ConfigError(f"season {season}: the data count steps of unknown length", hint="give it in steps: 24")
    if steps < 2 or steps != int(steps):
        raise ConfigError(f"season {season} is {steps:g} steps: want a whole number, at least 2")
    return int(steps)


def _span(us: int, samples: Samples) -> str:
    return f"{us / STEP_US:g} steps" if samples.clock == "count" else say_interval(pd.Timedelta(us, unit="us"))


def say_interval(interval: pd.Timedelta | float) -> str:
    """Return an interval as people write it: ``1h``, ``5min``; ``1 steps`` for steps of unknown length."""
    if not isinstance(interval, pd.Timedelta):
        return f"{interval:g} steps"
    for word, size in (("d", "1D"), ("h", "1h"), ("min", "1min"), ("s", "1s"), ("ms", "1ms")):
        count = interval / pd.Timedelta(size)
        if count >= 1 and count == int(count):
            return f"{int(count)}{word}"
    return f"{interval / pd.Timedelta('1s'):g}s"
