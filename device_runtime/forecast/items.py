"""Forecasts of every item of a table: an item that cannot be forecast is reported, and the others go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_runtime.errors import DeviceRuntimeError, ForecastError, InputError
from device_runtime.forecast.forecaster import Forecast, Forecaster
from device_runtime.forecast.uses import signal_of
from device_runtime.format.binding import Binding, Use
from device_runtime.series.several import Item, Items


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to forecast, and from which values. Lengths are in steps; None: the adapter's, else the base's."""

    targets: tuple[str | None, ...]  # None: the only value column
    past_covariates: tuple[str, ...] = ()
    future_covariates: tuple[str, ...] = ()
    prediction_length: int | None = None
    context_length: int | None = None
    quantile_levels: tuple[float, ...] | None = None  # None: the base's own
    num_samples: int | None = None  # of a base that samples
    seed: int = 0
    min_observed: int | None = None  # observed values a context needs; None: 12, or as many as it has steps


@dataclass(frozen=True, kw_only=True)
class ItemForecasts:
    """Forecasts of one or several targets by item, and the reasons why other items have none."""

    forecasts: Mapping[str, Forecast]
    left_out: Mapping[str, str]


def use_of(read: Items, targets: tuple[str | None, ...], bound: Binding | None) -> Use:
    """Return the use to check against the binding; a column that is only called ``value`` does not name its signal."""
    first = read.readings[0]
    signal: str | None = signal_of([one.target.name for one in read.readings[: len(targets)]], bound)
    if targets == (None,) and first.signal is None and not (bound and bound.is_signal(first.target.name)):
        signal = None
    return Use(signal=signal, unit=first.signal.ucum if first.signal else None, interval_us=read.interval_us)


def forecast_items(forecaster: Forecaster, read: Items, asked: Asked, *, steps: int, length: int) -> ItemForecasts:
    """Forecast ``steps`` of each item of a table from its latest ``length`` steps.

    If every item fails for the same reason, its `InputError` or `ForecastError` is raised.
    """
    left_out = {item: str(why) for item, why in read.faults.items()}
    left_out |= dict.fromkeys(read.empty_items, "not one usable value")
    forecasts: dict[str, Forecast] = {}
    failed: dict[str, DeviceRuntimeError] = {}
    for name, item in read.items.items():
        try:
            forecasts[name] = _forecast(forecaster, item, asked, steps, length)
        except (InputError, ForecastError) as error:
            failed[name] = error
    if not forecasts and not left_out and len({str(why) for why in failed.values()}) == 1:
        raise next(iter(failed.values()))  # the fault is not that of single items
    left_out |= {name: f"{why} ({why.hint})" if why.hint else str(why) for name, why in failed.items()}
    return ItemForecasts(forecasts=forecasts, left_out=left_out)


def _forecast(forecaster: Forecaster, item: Item, asked: Asked, steps: int, length: int) -> Forecast:
    """Forecast one item: ``[H, Q]`` of one target, ``[N, H, Q]`` of several together."""
    context = item.context(length, asked.min_observed)
    together = len(asked.targets) > 1
    return forecaster.forecast(
        context if together else context[0],
        steps,
        asked.quantile_levels,
        num_samples=asked.num_samples,
        seed=asked.seed,
        groups=[0] * len(asked.targets) if together else None,
        past_covariates={name: values[-length:] for name, values in item.past_covariates.items()},
        future_covariates=item.future_covariates,
    )
