"""``edge-tsfm forecast``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_tsfm.errors import ConfigError, DataError


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("data")
@click.option("--adapter", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Adapter blob.")
@click.option("--target", required=True, help="Channel or column to forecast.")
@click.option("--prediction-length", type=click.IntRange(1), default=6, help="Steps to forecast.")
@click.option("--context-length", type=click.IntRange(1), default=48, help="Latest steps to use.")
@click.option("--num-samples", type=click.IntRange(1), help="Paths to sample (Chronos-T5).  [default: the base's own]")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which paths to sample (Chronos-T5).")
@click.option("--id-column", help="Column of the patient.")
@click.option("--timestamp-column", help="Column of the time.")
@click.option("--interval", help="Time between steps, such as 1h.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help=".csv or .parquet  [default: print CSV]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    data: str,
    adapter: Path | None,
    target: str,
    prediction_length: int,
    context_length: int,
    num_samples: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    **columns: Any,
) -> None:
    """Forecast every series of DATA (any layout that train reads) with the device's own runtime.

    Forecasts what follows the last value of each series. The table has a row for each item and step.
    """
    import numpy as np
    import pandas as pd

    from device_runtime.files import write_atomic
    from device_runtime.forecaster import Forecaster
    from edge_tsfm.data import read_dataset

    dataset = read_dataset(data, target=target, **columns)
    forecaster = Forecaster.open(bundle, adapter)
    kept = [series for series in dataset.series if np.isfinite(series.target[-context_length:]).any()]
    if not kept:
        raise DataError(f"{data}: no series has an observed value in its last {context_length} steps")
    contexts = np.full((len(kept), context_length), np.nan, dtype=np.float32)
    for row, series in enumerate(kept):
        tail = series.target[-context_length:]
        contexts[row, context_length - len(tail) :] = tail
    forecast = forecaster.forecast(contexts, prediction_length, num_samples=num_samples, seed=seed)
    rows = []
    for series, quantiles in zip(kept, forecast.quantiles, strict=True):
        for step, values in enumerate(quantiles, start=1):
            named = {
                f"{level:g}": round(float(v), 3) for level, v in zip(forecast.quantile_levels, values, strict=True)
            }
            rows.append({"item_id": series.item_id, "segment": series.segment, "step": step, **named})
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
