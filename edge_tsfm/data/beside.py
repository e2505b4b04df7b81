"""Several signals of one source on one clock, for forecasts of several targets or with covariates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from device_runtime.series.signals import Signal
from edge_tsfm.data.options import DataOptions
from edge_tsfm.data.read import AS_THEY_SAY, read_dataset
from edge_tsfm.data.series import Dataset, Series
from edge_tsfm.data.sources import Source
from edge_tsfm.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One series of the first signal, and the others at its places, NaN where nothing was measured."""

    series: Series
    values: Mapping[str, NDArray[np.float32]]  # name as asked for → [T], the first signal's own among them
    fault: str = ""  # why it cannot be forecast: the others' times do not fit its own

    @property
    def where(self) -> str:
        """Name it for a message."""
        return f"item {self.series.item_id}, segment {self.series.segment}"


def read_beside(
    source: Source,
    names: Sequence[str],
    options: DataOptions = AS_THEY_SAY,
    *,
    signal: Signal | None = None,
) -> tuple[Dataset, tuple[Stretch, ...]]:
    """Read the signals ``names`` of a source: the first one's dataset, and its series with the others beside.

    Every signal is read as `read_dataset` reads it, with its ``options``, of which ``unit`` is the first one's. A
    series whose other signals do not fit beside it has a ``fault`` and none of their values: it stops no other. Raises
    as that does, `ConfigError` for a signal named twice, `DataError` for signals whose clocks differ.
    """
    beside = replace(options, unit=None)
    read = {
        name: read_dataset(source, options if name == names[0] else beside, target=name, signal=signal)
        for name in names
    }
    signals = [dataset.signal for dataset in read.values()]
    if len(set(signals)) < len(names):
        raise ConfigError(f"{', '.join(names)}: a signal is named twice")
    first = read[names[0]]
    for name, dataset in read.items():
        if dataset.interval != first.interval:
            raise DataError(
                f"{first.report.source}: {names[0]} is every {first.interval}, {name} every {dataset.interval}",
                hint="say --interval: the longest of them",
            )
    by_item: dict[str, dict[str, list[Series]]] = {name: {} for name in names[1:]}
    for name in names[1:]:
        for one in read[name].series:
            by_item[name].setdefault(one.item_id, []).append(one)
    return first, tuple(_stretch(series, names[0], by_item) for series in first.series)


def _stretch(series: Series, name: str, by_item: Mapping[str, Mapping[str, Sequence[Series]]]) -> Stretch:
    """Lay what its patient's other signals have beside ``series`` of signal ``name``."""
    own = {name: series.target}
    try:
        beside = {name: lay_beside(series, items.get(series.item_id, ())) for name, items in by_item.items()}
    except DataError as error:
        return Stretch(series=series, values=own, fault=f"{error} ({error.hint})" if error.hint else str(error))
    return Stretch(series=series, values=own | beside)


def lay_beside(series: Series, others: Iterable[Series]) -> NDArray[np.float32]:
    """Return ``others`` (one patient's, of another signal) at the places of ``series``: ``[T]``, NaN elsewhere.

    Raises `DataError` where their clocks do not meet, or two of them speak of one place.
    """
    values = np.full(len(series), np.nan, dtype=np.float32)
    for other in others:
        shift = _places_between(series, other)
        begin, end = max(shift, 0), min(shift + len(other), len(series))
        if begin >= end:
            continue
        part = other.target[begin - shift : end - shift]
        seen = np.isfinite(part)
        if np.isfinite(values[begin:end][seen]).any():
            raise DataError(f"item {series.item_id}: two series of {other.signal} cover the same time")
        values[begin:end][seen] = part[seen]
    return values


def _places_between(series: Series, other: Series) -> int:
    """Return at which place of ``series`` the first of ``other`` lies."""
    if series.start is None or other.start is None:
        return other.first_step - series.first_step
    apart = (other.start - series.start) / pd.Timedelta(series.interval)
    if apart != round(apart):
        raise DataError(
            f"item {series.item_id}: {other.signal} is not measured at the times of {series.signal}",
            hint="say a longer --interval",
        )
    return round(apart)


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """N stretches cut to what a forecaster takes; NaN is missing, or before the series."""

    kept: tuple[Series, ...]  # N: those of which every target was observed often enough
    left_out: Mapping[str, str]  # what cannot be forecast → why
    targets: NDArray[np.float32]  # [N * targets, L], a stretch's targets one after the other
    past: Mapping[str, NDArray[np.float32]]  # name → [N, L]
    future: Mapping[str, NDArray[np.float32]]  # name → [N, H]

    def only(self, places: Sequence[int]) -> "Contexts":
        """Return the stretches at ``places`` of these."""
        rows = self.targets.reshape(len(self.kept), -1, self.targets.shape[1])[places]
        return replace(
            self,
            kept=tuple(self.kept[place] for place in places),
            targets=rows.reshape(-1, self.targets.shape[1]),
            past={name: values[places] for name, values in self.past.items()},
            future={name: values[places] for name, values in self.future.items()},
        )


def take_contexts(
    stretches: Iterable[Stretch],
    *,
    targets: Sequence[str],
    past: Sequence[str] = (),
    future: Sequence[str] = (),
    context_length: int,
    prediction_length: int,
    min_observed: int = 1,
) -> Contexts:
    """Cut the latest ``context_length`` places of every stretch; with ``future`` those before the steps to forecast.

    ``future`` names what is known ahead: then the last ``prediction_length`` places of each item's last stretch are the
    steps to forecast, and its other stretches are not taken. What cannot be forecast is left out and stops no other,
    neither does a stretch of which a target has fewer than ``min_observed`` observed values there.
    """
    ahead = prediction_length if future else 0
    if future:
        stretches = {one.series.item_id: one for one in stretches}.values()
    kept: list[Stretch] = []
    left_out: dict[str, str] = {}
    for one in stretches:
        if why := one.fault or _unfit(one, targets, past, future, context_length, ahead, min_observed):
            left_out[one.where] = why
        else:
            kept.append(one)

    def rows(names: Sequence[str]) -> NDArray[np.float32]:
        """Return the contexts of ``names`` of every stretch, ``[N * names, L]``."""
        out = np.full((len(kept), len(names), context_length), np.nan, dtype=np.float32)
        for row, one in enumerate(kept):
            for place, name in enumerate(names):
                tail = one.values[name][: len(one.series) - ahead][-context_length:]
                out[row, place, context_length - len(tail) :] = tail
        return out.reshape(-1, context_length)

    return Contexts(
        kept=tuple(one.series for one in kept),
        left_out=left_out,
        targets=rows(targets),
        past={name: rows([name]) for name in (*past, *future)},
        future={name: np.array([one.values[name][-ahead:] for one in kept], dtype=np.float32) for name in future},
    )


def _unfit(
    one: Stretch,
    targets: Sequence[str],
    past: Sequence[str],
    future: Sequence[str],
    context_length: int,
    ahead: int,
    min_observed: int,
) -> str:
    """Return why a series cannot be forecast; nothing if it can."""
    length = len(one.series) - ahead
    if length < 1:
        return f"{len(one.series)} places, want more than the {ahead} to forecast"
    for name in (*targets, *past):
        if np.isfinite(one.values[name][length:]).any():
            return (
                f"{name} has a value in the last {ahead} places, which are the steps to forecast: with "
                "--future-covariate add rows that hold nothing but what is known ahead"
            )
    for name in future:
        if not np.isfinite(one.values[name][length:]).any():
            return f"{name} has no value in the last {ahead} places, the steps to forecast"
    begin = max(length - context_length, 0)
    for name in targets:
        if (seen := int(np.isfinite(one.values[name][begin:length]).sum())) < min_observed:
            return (
                f"{name} has {seen} observed values in the last {context_length} steps, want {min_observed}: "
                "--min-observed takes fewer, --interval a longer step"
            )
    return ""
