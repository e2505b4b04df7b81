"""The windows for training, early stopping, gate and test: split by item, or by time for a few long series.

By item (patients) is the default, and the only split whose figures hold for unseen items. By time, the first 60 % of
the time span are for training, 10 % for early stopping, 10 % for the gate, the last 20 % for the test: the proportions
of the usual 12, 4 and 4 months of ETT. Edges are the same for all series, so no series leaks another one's future.
A window belongs to the part that contains all of it, context and target; one that straddles an edge belongs to none. So
the targets of two parts are at least a context apart, and no value is in windows of both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_tsfm.data.series import Series
from edge_tsfm.data.split import DIGITS, Part, split_digit
from edge_tsfm.data.windows import Windows, make_windows
from edge_tsfm.errors import ConfigError, DataError

SplitBy = Literal["item", "time"]
Edges = tuple[int, int, int]  # ends of training, stopping and gate: microseconds since 1970 (UTC), or steps
PERCENT = (60, 70, 80)
# Which edges a part lies between; the first and the last part are open, so that a file may grow at its end.
BETWEEN: Mapping[Part, tuple[int | None, int | None]] = MappingProxyType(
    {
        "train": (None, 0),
        "stopping": (0, 1),
        "gate": (1, 2),
        "validation": (0, 2),
        "test": (2, None),
        "all": (None, None),
    }
)


@dataclass(frozen=True, kw_only=True)
class Split:
    """How series fall into parts. ``edges`` make it a split by time, ``block_length`` (steps) what intervals draw."""

    edges: Edges | None = None
    block_length: int = 0
    timed: bool = True  # edges are times; else steps

    @classmethod
    def of(cls, series: Iterable[Series], by: SplitBy, block_length: int) -> "Split":
        """Make the split of a dataset."""
        if by == "item":
            return cls()
        series = list(series)
        ends = [(at, at + len(one) * step) for one, (at, step) in ((one, clock_of(one)) for one in series)]
        begin, end = min(at for at, _ in ends), max(at for _, at in ends)
        first, second, third = (begin + (end - begin) * percent // 100 for percent in PERCENT)
        return cls(edges=(first, second, third), block_length=block_length, timed=is_timed(series))

    @property
    def by(self) -> SplitBy:
        """What is split."""
        return "item" if self.edges is None else "time"

    def series(self, series: Iterable[Series], part: Part) -> tuple[Series, ...]:
        """Return the series that `windows` cuts for ``part``: by time every one of them."""
        if self.edges is not None:
            return tuple(series)
        return tuple(one for one in series if split_digit(one.item_id) in DIGITS[part])

    def trained_items(self, series: Iterable[Series]) -> set[str]:
        """Return the items that this split would train on."""
        if self.edges is None:
            return {one.item_id for one in series if split_digit(one.item_id) in DIGITS["train"]}
        return {one.item_id for one in series if clock_of(one)[0] < self.edges[0]}

    def windows(
        self,
        series: Sequence[Series],
        part: Part,
        *,
        context_length: int,
        prediction_length: int,
        stride: int,
        min_observed: int,
    ) -> Windows:
        """Cut one part's windows of ``series``, which `series` gave.

        Raises `ConfigError` as `make_windows`, and `DataError` for data by steps where the edges are times, or
        the other way round.
        """
        windows = make_windows(
            series,
            context_length=context_length,
            prediction_length=prediction_length,
            stride=stride,
            min_observed=min_observed,
        )
        if self.edges is None:
            return windows
        if self.block_length < prediction_length:
            raise ConfigError(
                f"block_length {self.block_length} is shorter than prediction_length {prediction_length}",
                hint="a block holds at least one window's target, and the longer the better",
            )
        clocks = np.array([clock_of(one) for one in series], dtype=np.int64).reshape(-1, 2)
        at, step = clocks[windows.series, 0], clocks[windows.series, 1]  # [N]
        begin = at + step * np.maximum(windows.cutoff - context_length, 0)  # padding is no time
        end = at + step * (windows.cutoff + prediction_length)
        low, high = (None if edge is None else self.edges[edge] for edge in BETWEEN[part])
        inside = np.ones(len(windows), dtype=np.bool_)
        if low is not None:
            inside &= begin >= low
        if high is not None:
            inside &= end <= high
        timed = is_timed(series)
        if series and timed != self.timed:
            kinds = ("times", "step numbers")
            raise DataError(
                f"the run was split by {kinds[not self.timed]}, these data have {kinds[not timed]}",
                hint="give data with the same kind of timestamps",
            )
        blocks = _blocks((at + step * windows.cutoff)[inside], step[inside] * self.block_length, timed=timed)
        return replace(windows.keep(inside), unit="block", block=blocks)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: what a run records of its split."""
        if self.edges is None:
            return {"by": "item"}
        return {
            "by": "time",
            "edges": list(self.edges),
            "timed": self.timed,
            "percent": list(PERCENT),
            "block_length": self.block_length,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Split":
        """Read what `to_dict` wrote; a run that recorded nothing was split by item."""
        if values is None or values["by"] == "item":
            return cls()
        first, second, third = values["edges"]
        return cls(edges=(first, second, third), block_length=values["block_length"], timed=values["timed"])


def is_timed(series: Sequence[Series]) -> bool:
    """Return whether series have times and not only step numbers."""
    return bool(series) and series[0].start is not None


def clock_of(series: Series) -> tuple[int, int]:
    """Return the time of a series' first value and its step: microseconds since 1970 (UTC), or steps of the file."""
    if series.start is None or not isinstance(series.interval, pd.Timedelta):
        return series.first_step, 1
    microsecond = pd.Timedelta("1us")
    return (series.start - pd.Timestamp(0)) // microsecond, series.interval // microsecond


def say_edge(edge: int, *, timed: bool) -> str:
    """Write an edge as people do: ``2017-09-10 06:00:00`` or ``step 600``."""
    return pd.Timestamp(edge, unit="us").isoformat(sep=" ") if timed else f"step {edge}"


def _blocks(cutoff: NDArray[np.int64], length: NDArray[np.int64], *, timed: bool) -> NDArray[np.str_]:
    """Name the block of time that each target begins in, counted from the first target: ``[N]``.

    Series at the same time share a block: what moves one may move all.
    """
    if not len(cutoff):
        return np.empty(0, dtype=np.str_)
    origin = cutoff.min()
    begin = origin + (cutoff - origin) // length * length
    names = {int(edge): say_edge(int(edge), timed=timed) for edge in np.unique(begin)}
    return np.array([names[int(edge)] for edge in begin], dtype=np.str_)
