"""Several signals of one table on one clock: targets and covariates, the latest series of every item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells
from device_runtime.series.clock import say_interval
from device_runtime.series.options import MIN_OBSERVED, OptionError, ReadOptions
from device_runtime.series.read import read
from device_runtime.series.reading import Reading, Stretch
from device_runtime.series.signals import Signal

FloatArray = NDArray[np.float32]
MAX_TABLE_SIZE = 67_108_864  # bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One item of a table, NaN for missing; the names of covariates are their columns."""

    targets: FloatArray  # [N, L]
    past_covariates: dict[str, FloatArray]  # [L] each, those known ahead among them
    future_covariates: dict[str, FloatArray]  # [H] each

    def context(self, length: int, min_observed: int | None = None) -> FloatArray:
        """Return the latest ``length`` steps of the targets, ``[N, min(L, length)]``.

        Raises `InputError` where a target has fewer observed values there than ``min_observed``.
        """
        context = self.targets[:, -length:]
        want = min_observed or min(MIN_OBSERVED, length)
        observed = int(np.isfinite(context).sum(axis=1).min())
        if observed < want:
            raise InputError(
                f"{observed} observed values in its last {context.shape[1]} steps, want {want}",
                hint="--min-observed takes fewer, --interval a longer step",
            )
        return context


@dataclass(frozen=True, kw_only=True, eq=False)
class Items:
    """The items of a table, and what was decided to read them: an adapter can be held against it."""

    items: dict[str, Item]
    readings: tuple[Reading, ...]  # of each target and covariate, in the order asked for
    empty_items: tuple[str, ...]  # of which the first target has no value
    faults: dict[str, InputError]  # items that cannot be forecast from, and why

    @property
    def signal(self) -> Signal | None:
        """The first target's vital sign; None for another domain's signal."""
        return self.readings[0].signal

    @property
    def unit(self) -> str | None:
        """The unit of its values; None where it is not in the table of signals."""
        return self.readings[0].unit

    @property
    def interval_us(self) -> int | None:
        """The time between steps in microseconds; None where the table counts steps of unknown length."""
        return self.readings[0].interval_us

    def summary(self) -> str:
        """Say in one line what was read as what."""
        first = self.readings[0]
        unit = f" {first.unit}" if first.unit else ""
        return (
            f"{'; '.join(first.layout.lines())}; column {first.target.column} as {first.target.name}{unit} "
            f"every {say_interval(first.every_us, first.clock)}; {len(self.items)} items"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of how the table was read, once each."""
        return tuple(dict.fromkeys(note for reading in self.readings for note in reading.notes))


def read_items(
    cells: Cells,
    *,
    targets: Sequence[str | None] = (None,),
    past_covariates: Sequence[str] = (),
    future_covariates: Sequence[str] = (),
    prediction_length: int = 0,
    options: ReadOptions | None = None,
) -> Items:
    """Read targets and covariates of a table by the rules of ``SERIES.md``: item id → its latest stretch.

    A target None is the only value column; ``options.unit`` is the first target's. With ``future_covariates`` the last
    ``prediction_length`` steps of every item are the ones to forecast: they hold those covariates and nothing else. An
    item that cannot be forecast from is a fault and stops no other. Raises `InputError` for a table that cannot be
    read, or of which no item can be used.
    """
    names = [*targets, *past_covariates, *future_covariates]
    options = options or ReadOptions(rows_are_steps=True)
    beside = replace(options, unit=None)
    readings = {name: read(cells, name, options if name == names[0] else beside) for name in names}
    columns = [(one.target.column, one.target.events) for one in readings.values()]
    if len(readings) < len(names) or len(set(columns)) < len(columns):
        twice = next((name for name in names if names.count(name) > 1), names[-1])
        raise OptionError(f"column {twice!r} is asked for twice", hint="it is a target or a covariate, once")
    first = readings[names[0]]
    for name, reading in readings.items():
        if reading.every_us != first.every_us:
            raise InputError(
                f"{cells.source}: {names[0]} and {name} are not on one clock",
                hint="say the longest with --interval",
            )
    ahead = prediction_length if future_covariates else 0
    others = {name: _by_item(reading) for name, reading in readings.items() if name != names[0]}
    latest: dict[str, Stretch] = {}
    for stretch in first.stretches():
        if stretch.item_id not in latest or stretch.start_us > latest[stretch.item_id].start_us:
            latest[stretch.item_id] = stretch
    items: dict[str, Item] = {}
    faults: dict[str, InputError] = {}
    for item_id, stretch in latest.items():
        where = f"{cells.source}: {item_id}"
        try:
            values = {names[0]: stretch.values} | {
                name: _beside(stretch, stretches.get(item_id, []), first.every_us) for name, stretches in others.items()
            }
            items[item_id] = _divide(values, targets, past_covariates, future_covariates, ahead, where)
        except InputError as error:
            faults[item_id] = error
    if faults and not items:
        raise next(iter(faults.values()))
    if not items:
        raise InputError(f"{cells.source}: {first.target.name} has {len(first.kept)} rows and not one usable value")
    return Items(
        items=items,
        readings=tuple(readings.values()),
        empty_items=tuple(sorted(set(first.parts.item_ids) - set(latest))),
        faults=faults,
    )


def _by_item(reading: Reading) -> dict[str, list[Stretch]]:
    found: dict[str, list[Stretch]] = {}
    for stretch in reading.stretches():
        found.setdefault(stretch.item_id, []).append(stretch)
    return found


def _beside(stretch: Stretch, others: Sequence[Stretch], every_us: int) -> FloatArray:
    """Return ``others`` (one item's, of another signal) at the places of ``stretch``: ``[T]``, NaN elsewhere."""
    values = np.full(len(stretch.values), np.nan, dtype=np.float32)
    for other in others:
        shift, off = divmod(other.start_us - stretch.start_us, every_us)
        if off:
            raise InputError(
                f"item {stretch.item_id}: its signals are not measured at the same times",
                hint="say a longer step with --interval",
            )
        begin, end = max(shift, 0), min(shift + len(other.values), len(values))
        if begin < end:
            part = other.values[begin - shift : end - shift]
            values[begin:end] = np.where(np.isnan(part), values[begin:end], part)
    return values


def _divide(
    values: dict[str | None, FloatArray],
    targets: Sequence[str | None],
    past: Sequence[str],
    future: Sequence[str],
    ahead: int,
    where: str,
) -> Item:
    """Divide an item's signals ``[L + ahead]`` into what was and what is known ahead."""
    length = len(values[targets[0]]) - ahead
    if length < 1:
        raise InputError(
            f"{where}: {length + ahead} rows, want more than the {ahead} to forecast",
            hint="with --future-covariate the last rows, --prediction-length of them, are the steps to forecast",
        )
    for name in (*targets, *past):
        if np.isfinite(values[name][length:]).any():
            raise InputError(
                f"{where}: {name} has a value in the last {ahead} rows, which are the steps to forecast",
                hint="with --future-covariate add --prediction-length rows that hold nothing but what is known ahead",
            )
    for name in future:
        if not np.isfinite(values[name][length:]).any():
            raise InputError(f"{where}: {name} has no value in the last {ahead} rows, the steps to forecast")
    return Item(
        targets=np.stack([values[name][:length] for name in targets]),
        past_covariates={name: values[name][:length] for name in (*past, *future)},
        future_covariates={name: values[name][length:] for name in future},
    )
