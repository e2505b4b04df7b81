"""What every reader returns: series on a regular clock, and the report of how they were read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_tsfm.data.split import SplitName, split_of

Attribute = str | float
Attributes = tuple[Mapping[str, Attribute], ...]  # of each part of a table
_NO_ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Series:
    """One uninterrupted stretch of one signal of one patient.

    ``target`` is float32 ``[T]``, one value each ``interval``, NaN where nothing was measured, read-only.
    ``item_id`` is what the split goes by (the patient), so several series may share it; ``segment`` counts
    them. ``interval`` is a Timedelta, or a plain number of steps where the file has steps and nobody said how
    long one is. ``start`` is the time of ``target[0]`` (UTC where the file had a time zone); None where the
    file counts steps, whose first one is ``first_step``, in intervals, and ``phase`` plain steps after that: counts
    2, 5, 8 have 3 steps an interval and a phase of 2.
    """

    item_id: str
    signal: str
    interval: pd.Timedelta | float
    target: NDArray[np.float32]  # [T]
    start: pd.Timestamp | None = None
    first_step: int = 0
    phase: float = 0.0
    segment: int = 0
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: _NO_ATTRIBUTES)

    def __post_init__(self) -> None:
        if self.target.ndim != 1 or self.target.dtype != np.float32 or not len(self.target):
            raise ValueError(f"a target is float32 [T], T > 0; got {self.target.dtype} {self.target.shape}")
        if not self.item_id:
            raise ValueError("a series needs an item_id")

    def __len__(self) -> int:
        return len(self.target)

    @property
    def split(self) -> SplitName:
        """The part of the fixed split that this series' patient belongs to."""
        return split_of(self.item_id)

    def step_number(self, place: int) -> float:
        """Return the number that the file's count of steps has at a place; in intervals where their length was said."""
        every = self.interval if isinstance(self.interval, float | int) else 1
        number = (self.first_step + place) * every + self.phase
        return int(number) if number == int(number) else number


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What was read and what became of it; every count is of rows or values of the target signal."""

    source: str
    layout: str
    column: str
    channel: str  # the signal, under the key of run.json
    unit: str | None
    interval: str
    rows: int  # rows of the file that speak of this signal
    items: int
    series: int
    values: int  # observed values in the series
    share_observed: float  # of all places in the series
    missing: int  # rows without a value
    non_positive: int  # values <= 0 of a vital sign, made missing
    implausible: int  # values outside the signal's range, made missing
    plausible_range: tuple[float, float] | None
    converted: int  # values converted from another unit
    duplicates_identical: int
    duplicates_conflicting: int
    unsorted: int
    merged: int  # values that share a bin with another, beyond one
    gaps: int  # places where a series was cut
    items_without_values: int
    in_error: int = 0  # values of rows that a flag calls wrong, made missing
    left_out: int = 0  # rows that do not meet every condition
    columns: tuple[str, ...] = ()  # what each column was taken for, a line each
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON-ready values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the report as text, one fact a line, zero counts left out."""
        unit = f" {self.unit}" if self.unit else ""
        text = [
            f"{self.source}: {self.layout}, column {self.column} as {self.channel}{unit} every {self.interval}",
            f"{self.items} items, {self.series} series, {self.values} values ({self.share_observed:.1%} of places)",
        ]
        low_high = "-" if self.plausible_range is None else "{:g} to {:g}".format(*self.plausible_range)
        counts = (
            (self.left_out, "rows left out by --where"),
            (self.missing, "rows without a value"),
            (self.in_error, "values of rows that a flag calls wrong made missing"),
            (self.non_positive, "values <= 0 made missing"),
            (self.implausible, f"values outside {low_high}{unit} made missing"),
            (self.converted, "values converted to the signal's unit"),
            (self.duplicates_identical, "repeated rows dropped"),
            (self.duplicates_conflicting, "rows of one time with different values: their median taken"),
            (self.unsorted, "rows out of order, sorted"),
            (self.merged, "further values in a bin: its median taken"),
            (self.gaps, "gaps over the limit: the series was cut there"),
            (self.items_without_values, "items without a value left out"),
        )
        text += [f"{count} {what}" for count, what in counts if count]
        return text + [f"note: {note}" for note in self.notes]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All series of one signal of one source, in the order of item_id, then time.

    ``fingerprint`` is SHA-256 (hex) of exactly the values used; see `edge_tsfm.data.fingerprint`. ``empty_items`` are
    the items that have rows and not one usable value: no series.
    """

    series: tuple[Series, ...]
    interval: pd.Timedelta | float
    signal: str
    fingerprint: str
    report: ImportReport
    empty_items: tuple[str, ...] = ()

    def split(self, name: SplitName) -> tuple[Series, ...]:
        """Return the series of the patients of one part of the fixed split."""
        return tuple(series for series in self.series if series.split == name)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The distinct item_ids, in order."""
        return tuple(dict.fromkeys(series.item_id for series in self.series))
