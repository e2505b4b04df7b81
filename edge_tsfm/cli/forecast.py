"""``edge-tsfm forecast``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.options import (
    accept_option,
    binding_of,
    context_steps,
    require_use_said,
    said_use,
    signal_of,
    warn_of_accepted,
    warn_of_use,
)
from device_runtime.cli.outcome import LEFT_OUT, leave_out
from device_runtime.cli.read_options import min_observed_option
from device_runtime.errors import ForecastError
from edge_tsfm.cli.reading import read_options
from edge_tsfm.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from device_runtime.forecast.forecaster import Forecast, Forecaster
    from edge_tsfm.data import Dataset
    from edge_tsfm.data.beside import Contexts

PREDICTION_LENGTH, CONTEXT_LENGTH = 6, 48  # steps, of the base alone


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("data")
@click.option("--adapter", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Adapter blob.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    help="Signal or column to forecast; several are forecast together (Chronos-2).",
)
@click.option("--past-covariate", "past", multiple=True, help="Signal measured beside the target (Chronos-2).")
@click.option(
    "--future-covariate",
    "future",
    multiple=True,
    help="Signal also known ahead (Chronos-2): in the last rows, which are the steps to forecast.",
)
@click.option(
    "--prediction-length", type=click.IntRange(1), help="Steps to forecast.  [default: what the adapter is for, else 6]"
)
@click.option(
    "--context-length", type=click.IntRange(1), help="Latest steps to use.  [default: what the adapter is for, else 48]"
)
@click.option("--num-samples", type=click.IntRange(1), help="Paths to sample (Chronos-T5).  [default: the base's own]")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which paths to sample (Chronos-T5).")
@read_options
@min_observed_option("12, or as many as the context has steps")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help=".csv or .parquet  [default: print CSV]")
@accept_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    data: str,
    adapter: Path | None,
    targets: tuple[str, ...],
    past: tuple[str, ...],
    future: tuple[str, ...],
    prediction_length: int | None,
    context_length: int | None,
    num_samples: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    accept: tuple[str, ...],
    min_observed: int | None,
    **reading: Any,
) -> None:
    """Forecast every series of DATA (any layout that train reads) with the device's own runtime.

    Forecasts what follows the last row of each series. With --future-covariate: the last --prediction-length rows of
    each item, which hold what is known ahead and nothing else. The table has a row for each item, target and step.

    A series that cannot be forecast is named on standard error and left out; the others are forecast, and the command
    exits with status 4. CSV has 7 significant digits; JSON and Parquet hold exactly the float32 that were forecast.
    """
    import numpy as np
    import pandas as pd

    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"{out}: want a name that ends in .csv or .parquet")
    from device_runtime.digits import shortest
    from device_runtime.series.options import MIN_OBSERVED
    from edge_tsfm.data.beside import read_beside, take_contexts

    bound = binding_of(adapter)
    own = bound.own_signal if bound else None
    dataset, stretches = read_beside(data, [*targets, *past, *future], signal=own, **reading)
    forecaster = _opened(bundle, adapter, dataset, targets, accept)
    prediction_length = prediction_length or (bound.prediction_length if bound else PREDICTION_LENGTH)
    context_length = context_length or (bound.context_length if bound else CONTEXT_LENGTH)
    context_steps(forecaster, context_length)
    forecaster.check(replace(forecaster.use, context_length=context_length, prediction_length=prediction_length))
    contexts = take_contexts(
        stretches,
        targets=targets,
        past=past,
        future=future,
        context_length=context_length,
        prediction_length=prediction_length,
        min_observed=min_observed or min(MIN_OBSERVED, context_length),
    )
    left_out = {f"item {item}": "not one usable value" for item in dataset.empty_items} | dict(contexts.left_out)
    if not contexts.kept:
        where, why = next(iter(contexts.left_out.items()))
        raise DataError(f"{data}: none of its {len(left_out)} series can be forecast; {where}: {why}")
    several = len(targets) > 1

    def run(some: Contexts) -> Forecast:
        return forecaster.forecast(
            some.targets,
            prediction_length,
            num_samples=num_samples,
            seed=seed,
            groups=np.repeat(np.arange(len(some.kept)), len(targets)) if several else None,
            past_covariates=some.past,
            future_covariates=some.future,
        )

    contexts, forecast = _forecast(run, contexts, left_out)
    warn_of_accepted(forecast)
    for where, why in left_out.items():
        leave_out("edge-tsfm", where, why)
    named = [f"{level:g}" for level in forecast.quantile_levels]
    places = [
        {"item_id": series.item_id, "segment": series.segment}
        | ({"target_name": target} if several else {})
        | {"step": step}
        for series, target in product(contexts.kept, targets)
        for step in range(1, forecast.quantiles.shape[1] + 1)
    ]
    flat = forecast.quantiles.reshape(-1, len(named))  # a row for each of `places`
    if as_json:
        rows = [place | dict(zip(named, row, strict=True)) for place, row in zip(places, shortest(flat), strict=True)]
        identity = {"base": forecast.base, "adapter": forecast.adapter, "adapter_version": forecast.adapter_version}
        identity |= said_use(forecast)
        click.echo(
            json.dumps(
                {
                    **identity,
                    "target": dataset.signal,
                    "channel": dataset.signal,
                    "forecasts": rows,
                    "left_out": left_out,
                }
            )
        )
    else:
        frame = pd.concat([pd.DataFrame(places), pd.DataFrame(flat, columns=named)], axis=1)
        frame = frame.assign(base=forecast.base[:16], adapter=(forecast.adapter or "none")[:16])
        if forecast.accepted_differences:
            frame = frame.assign(accepted_differences=" ".join(forecast.accepted_differences))
        _write(frame, out)
    if left_out:
        click.get_current_context().exit(LEFT_OUT)


def _opened(
    bundle: Path, adapter: Path | None, dataset: Dataset, targets: tuple[str, ...], accept: tuple[str, ...]
) -> Forecaster:
    """Open what will forecast ``dataset``; an adapter for something else is refused, one that is unbound said."""
    from device_runtime.forecast.forecaster import Forecaster
    from edge_tsfm.data.use import use_of

    use = use_of(dataset)
    use = replace(use, signal=signal_of([dataset.signal, *targets[1:]], binding_of(adapter)))
    forecaster = Forecaster.open(bundle, adapter, use=use, accept=accept)
    require_use_said(forecaster)
    warn_of_use(forecaster)
    return forecaster


def _forecast(
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


def _write(frame: pd.DataFrame, out: Path | None) -> None:
    """Print or write the table: CSV with significant digits, Parquet with the float32 that were forecast."""
    from device_runtime.digits import SIGNIFICANT
    from device_runtime.files import write_atomic

    if out is not None and out.suffix == ".parquet":
        write_atomic(out, frame.to_parquet(index=False))
        return
    text = frame.to_csv(index=False, float_format=f"%.{SIGNIFICANT}g")
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())
