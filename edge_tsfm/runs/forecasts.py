"""Forecasting every series of a file or frame with the device runtime: a table with real times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from device_runtime.errors import ForecastError
from device_runtime.forecast import items
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecast, Forecaster
from device_runtime.forecast.uses import binding_of, signal_of
from device_runtime.format.binding import require_said
from device_runtime.series.options import MIN_OBSERVED
from edge_tsfm.data import Dataset, Series
from edge_tsfm.data.beside import Contexts, read_beside, take_contexts
from edge_tsfm.data.options import DataOptions
from edge_tsfm.data.read import AS_THEY_SAY
from edge_tsfm.data.sources import Source
from edge_tsfm.data.use import use_of
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.options import CONTEXT_LENGTH, PREDICTION_LENGTH


@dataclass(frozen=True, kw_only=True)
class Asked(items.Asked):
    """What to forecast from data. Lengths that neither the user nor the adapter gives are 48 steps and 6 ahead."""

    targets: tuple[str, ...]
    accept: tuple[str, ...] = ()  # in what the adapter may be for something else, by name
    reading: DataOptions = AS_THEY_SAY


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecasts:
    """Forecasts of N series and their targets, and what could not be forecast."""

    forecast: Forecast  # quantiles [N * targets, H, Q]
    series: tuple[Series, ...]  # N
    targets: tuple[str, ...]
    ahead: int  # places at the end of each series that are steps to forecast, not context
    dataset: Dataset  # of the first target
    left_out: Mapping[str, str]  # "item 7, segment 0" → why

    @property
    def levels(self) -> list[str]:
        """The columns of the quantiles."""
        return [f"{level:g}" for level in self.forecast.quantile_levels]

    def rows(self) -> list[dict[str, Any]]:
        """Return where each row ``[N * targets * H]`` of the quantiles belongs: item, segment, target, step and time.

        The time is that of the step itself: a Timestamp (UTC where the data had a time zone), or the step's number
        where the data count steps.
        """
        steps = self.forecast.quantiles.shape[1]
        return [
            {"item_id": one.item_id, "segment": one.segment, "target_name": target, "step": step, "timestamp": when}
            for one, target in product(self.series, self.targets)
            for step, when in enumerate(times_after(one, steps, ahead=self.ahead), start=1)
        ]

    def frame(self) -> pd.DataFrame:
        """Return `rows` with a column for each quantile, float32."""
        rows = self.rows()
        places = pd.DataFrame(rows)
        if self.series[0].start is not None:  # microseconds: de-identified years overflow nanoseconds
            places["timestamp"] = np.array([row["timestamp"].to_datetime64() for row in rows], "datetime64[us]")
        flat = self.forecast.quantiles.reshape(len(rows), -1)
        return pd.concat([places, pd.DataFrame(flat, columns=self.levels)], axis=1)


def forecast_data(
    bundle: Bundle | Path | str,
    data: Source,
    asked: Asked,
    *,
    adapter: bytes | Path | None = None,
    opened: Callable[[Forecaster], None] = lambda _: None,
) -> Forecasts:
    """Forecast what follows the last row of every series of ``data``.

    With future covariates: the last ``prediction_length`` rows of each item, which hold what is known ahead and nothing
    else. A series that cannot be forecast is left out and stops no other. ``opened`` sees the forecaster before it
    forecasts. Raises what `read_dataset` and `Forecaster.open` raise, `SignalMismatchError` for an adapter that is for
    something else, `DataError` when nothing can be forecast.
    """
    bound = binding_of(adapter)
    base = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
    steps = asked.prediction_length or (bound.prediction_length if bound else PREDICTION_LENGTH)
    length = asked.context_length or (bound.context_length if bound else CONTEXT_LENGTH)
    if length > (most := base.manifest.context_length):
        raise ConfigError(
            f"context_length {length}: base {base.manifest.name} reads at most {most} steps",
            hint=f"a context length of {most} or less; a longer one has no effect",
        )
    names = [*asked.targets, *asked.past_covariates, *asked.future_covariates]
    dataset, stretches = read_beside(data, names, asked.reading, signal=bound.own_signal if bound else None)
    signal = signal_of([dataset.signal, *asked.targets[1:]], bound)
    forecaster = Forecaster.open(base, adapter, use=replace(use_of(dataset), signal=signal), accept=asked.accept)
    opened(forecaster)
    if forecaster.binding is not None:
        require_said(forecaster.binding, forecaster.use)
    forecaster.check(replace(forecaster.use, context_length=length, prediction_length=steps))
    contexts = take_contexts(
        stretches,
        targets=asked.targets,
        past=asked.past_covariates,
        future=asked.future_covariates,
        context_length=length,
        prediction_length=steps,
        min_observed=asked.min_observed or min(MIN_OBSERVED, length),
    )
    left_out = {f"item {item}": "not one usable value" for item in dataset.empty_items} | dict(contexts.left_out)
    if not contexts.kept:
        where, why = next(iter((contexts.left_out or left_out).items()))
        raise DataError(f"{dataset.report.source}: none of its {len(left_out)} series can be forecast; {where}: {why}")

    def run(some: Contexts) -> Forecast:
        several = len(asked.targets) > 1
        return forecaster.forecast(
            some.targets,
            steps,
            asked.quantile_levels,
            num_samples=asked.num_samples,
            seed=asked.seed,
            groups=np.repeat(np.arange(len(some.kept)), len(asked.targets)) if several else None,
            past_covariates=some.past,
            future_covariates=some.future,
        )

    contexts, forecast = _all_that_can(run, contexts, left_out)
    return Forecasts(
        forecast=forecast,
        series=contexts.kept,
        targets=asked.targets,
        ahead=steps if asked.future_covariates else 0,
        dataset=dataset,
        left_out=left_out,
    )


def times_after(series: Series, steps: int, *, ahead: int = 0) -> list[Any]:
    """Return the times of the ``steps`` that follow a series, or of its last ``ahead`` ones on: `Forecasts.rows`."""
    first = len(series) - ahead
    if series.start is None:
        return [series.step_number(first + step) for step in range(steps)]
    return [series.start + (first + step) * pd.Timedelta(series.interval) for step in range(steps)]


def _all_that_can(
    run: Callable[[Contexts], Forecast], contexts: Contexts, left_out: dict[str, str]
) -> tuple[Contexts, Forecast]:
    """Forecast all that can be, together; the series that spoil it go to ``left_out``."""
    try:
        return contexts, run(contexts)
    except ForecastError:
        if len(contexts.kept) == 1:
            raise
    # The values of one series may be beyond what a float can forecast: find it.
    good: list[int] = []
    for place, series in enumerate(contexts.kept):
        try:
            run(contexts.only([place]))
        except ForecastError as error:
            left_out[f"item {series.item_id}, segment {series.segment}"] = str(error)
        else:
            good.append(place)
    kept = contexts.only(good)
    return kept, run(kept)
