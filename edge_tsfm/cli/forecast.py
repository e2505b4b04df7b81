"""``edge-tsfm forecast``."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.read_options import min_observed_option, read_options
from edge_tsfm.errors import ConfigError, DataError


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("data")
@click.option("--adapter", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Adapter blob.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    help="Channel or column to forecast; several are forecast together (Chronos-2).",
)
@click.option("--past-covariate", "past", multiple=True, help="Channel measured beside the target (Chronos-2).")
@click.option(
    "--future-covariate",
    "future",
    multiple=True,
    help="Channel also known ahead (Chronos-2): in the last rows, which are the steps to forecast.",
)
@click.option("--prediction-length", type=click.IntRange(1), default=6, help="Steps to forecast.")
@click.option("--context-length", type=click.IntRange(1), default=48, help="Latest steps to use.")
@click.option("--num-samples", type=click.IntRange(1), help="Paths to sample (Chronos-T5).  [default: the base's own]")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which paths to sample (Chronos-T5).")
@read_options
@min_observed_option("12, or as many as the context has steps")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help=".csv or .parquet  [default: print CSV]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    data: str,
    adapter: Path | None,
    targets: tuple[str, ...],
    past: tuple[str, ...],
    future: tuple[str, ...],
    prediction_length: int,
    context_length: int,
    num_samples: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    min_observed: int | None,
    **reading: Any,
) -> None:
    """Forecast every series of DATA (any layout that train reads) with the device's own runtime.

    Forecasts what follows the last row of each series. With --future-covariate: the last --prediction-length rows of
    each item, which hold what is known ahead and nothing else. The table has a row for each item, target and step.
    """
    import numpy as np
    import pandas as pd

    from device_runtime.files import write_atomic
    from device_runtime.forecaster import Forecaster
    from device_runtime.series.options import MIN_OBSERVED
    from edge_tsfm.data.beside import read_beside, take_contexts

    dataset, stretches = read_beside(data, [*targets, *past, *future], **reading)
    forecaster = Forecaster.open(bundle, adapter)
    contexts = take_contexts(
        stretches,
        targets=targets,
        past=past,
        future=future,
        context_length=context_length,
        prediction_length=prediction_length,
        min_observed=min_observed or min(MIN_OBSERVED, context_length),
    )
    if not contexts.kept:
        raise DataError(
            f"{data}: no series has enough observed values in its last {context_length} steps",
            hint="--min-observed takes fewer, --interval a longer step",
        )
    if contexts.left_out:
        click.echo(
            f"{contexts.left_out} series left out: too few observed values in the last {context_length} steps", err=True
        )
    several = len(targets) > 1
    forecast = forecaster.forecast(
        contexts.targets,
        prediction_length,
        num_samples=num_samples,
        seed=seed,
        groups=np.repeat(np.arange(len(contexts.kept)), len(targets)) if several else None,
        past_covariates=contexts.past,
        future_covariates=contexts.future,
    )
    named = [f"{level:g}" for level in forecast.quantile_levels]
    rows = [
        {"item_id": series.item_id, "segment": series.segment}
        | ({"target_name": target} if several else {})
        | {"step": step}
        | {level: round(float(value), 3) for level, value in zip(named, values, strict=True)}
        for (series, target), quantiles in zip(product(contexts.kept, targets), forecast.quantiles, strict=True)
        for step, values in enumerate(quantiles, start=1)
    ]
    identity = {"base": forecast.base, "adapter": forecast.adapter, "adapter_version": forecast.adapter_version}
    if as_json:
        click.echo(json.dumps({**identity, "channel": dataset.channel, "forecasts": rows}))
        return
    frame = pd.DataFrame(rows).assign(base=forecast.base[:16], adapter=(forecast.adapter or "none")[:16])
    if out is None:
        click.echo(frame.to_csv(index=False), nl=False)
    elif out.suffix == ".csv":
        write_atomic(out, frame.to_csv(index=False).encode())
    elif out.suffix == ".parquet":
        write_atomic(out, frame.to_parquet(index=False))
    else:
        raise ConfigError(f"{out}: want a name that ends in .csv or .parquet")
