"""A ward's history as a monitor would have seen it: stays of one split, and the forecaster that would have run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.uses import binding_of, signal_of
from device_runtime.format.binding import Binding
from device_runtime.series.options import MIN_OBSERVED
from edge_tsfm.data import DataOptions, Dataset, Part, Series, read_dataset
from edge_tsfm.data.split import DIGITS, split_digit
from edge_tsfm.data.use import use_of
from edge_tsfm.errors import DataError
from edge_tsfm.options import CONTEXT_LENGTH, PREDICTION_LENGTH


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of context and forecast on a monitor, in steps."""

    context_length: int
    prediction_length: int
    min_observed: int
    interval_ms: int


@dataclass(frozen=True, kw_only=True)
class AskedLengths:
    """The lengths that a user gave; None: those that the adapter is for, else 48 and 6 steps."""

    context_length: int | None = None
    prediction_length: int | None = None
    min_observed: int | None = None  # None: 12, or as many as the context has steps


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """Stays of one signal, in sequence."""

    dataset: Dataset
    stays: Sequence[Series]
    bound: Binding | None  # what the adapter on the monitor is for

    def open(self, bundle: Path, adapter: Path | None, accept: Sequence[str]) -> Forecaster:
        """Open the forecaster that a monitor with this history would run. Raises what `Forecaster.open` raises."""
        use = replace(use_of(self.dataset), signal=signal_of([self.dataset.signal], binding_of(adapter)))
        return Forecaster.open(bundle, adapter, use=use, accept=accept)

    def lengths(self, asked: AskedLengths) -> Lengths:
        """Return the lengths to use: those given, else the adapter's, else the defaults."""
        context = asked.context_length or (self.bound.context_length if self.bound else CONTEXT_LENGTH)
        ahead = asked.prediction_length or (self.bound.prediction_length if self.bound else PREDICTION_LENGTH)
        return Lengths(
            context_length=context,
            prediction_length=ahead,
            min_observed=asked.min_observed or min(MIN_OBSERVED, context),
            interval_ms=interval_ms_of(self.stays[0]),
        )


def read_history(
    data: str, adapter: Path | None, *, part: Part, target: str | None, reading: Mapping[str, Any]
) -> History:
    """Read the stays of one split; the signal is ``target``, else the one that the adapter is for.

    Raises what `read_dataset` raises, and `DataError` if the split has no stay.
    """
    bound = binding_of(adapter)
    name = target or (bound.name if bound else None)
    dataset = read_dataset(data, DataOptions.of(reading), target=name, signal=bound.own_signal if bound else None)
    stays = [one for one in dataset.series if split_digit(one.item_id) in DIGITS[part]]
    if not stays:
        raise DataError(f"{data}: none of its {len(dataset.series)} stays is in the {part} split", hint="--split all")
    interval_ms_of(stays[0])  # before anything slow
    return History(dataset=dataset, stays=stays, bound=bound)


def interval_ms_of(one: Series) -> int:
    """Return the time between two steps in milliseconds. Raises `DataError` if the data do not give it."""
    if not isinstance(one.interval, pd.Timedelta) or one.interval % pd.Timedelta("1ms"):
        raise DataError(
            f"a monitor's feed has steps of whole milliseconds; these are {one.interval} long",
            hint="say how long a step is: --interval 1h",
        )
    return int(one.interval / pd.Timedelta("1ms"))
