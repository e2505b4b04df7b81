"""``edge-tsfm forecast``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.asked import TOGETHER, covariate_options, length_options, sampling_options, taken
from device_runtime.cli.options import (
    accept_option,
    context_steps,
    require_use_said,
    said_use,
    warn_of_accepted,
    warn_of_use,
)
from device_runtime.cli.outcome import LEFT_OUT, leave_out
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.paths import Bundle, Existing, NewFile
from edge_tsfm.cli.reading import read_options
from edge_tsfm.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from device_runtime.forecast.forecaster import Forecaster
    from edge_tsfm.runs.forecasts import Forecasts


@click.command()
@click.argument("bundle", type=Bundle(), metavar="BUNDLE")
@click.argument("data")
@click.option("--adapter", type=Existing(dir_okay=False), help="Adapter blob.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    help=f"Signal or column to forecast; {TOGETHER}",
)
@covariate_options
@length_options(context="what the adapter is for, else 48", prediction="what the adapter is for, else 6")
@sampling_options
@read_options
@min_observed_option("12, or as many as the context has steps")
@click.option("--out", type=NewFile(), help=".csv or .parquet  [default: print CSV]")
@accept_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path | str,
    data: str,
    adapter: Path | None,
    out: Path | None,
    as_json: bool,
    accept: tuple[str, ...],
    **given: Any,
) -> None:
    """Forecast every series of DATA (any layout that train reads) with the device's own runtime.

    BUNDLE is a folder, or a repository OWNER/NAME of the Hugging Face hub that push wrote; --adapter then takes the
    place of the adapter in it.

    Forecasts the steps after the last row of each series. With --future-covariate it forecasts the steps of the last
    --prediction-length rows of each item, which hold only values known ahead. The table has a row for each item, target
    and step, with the time of the step: UTC if the data have a time zone, the step number if they count steps.

    A series that cannot be forecast is named on standard error and left out; the others are forecast, and the command
    exits with status 4. CSV has 7 significant digits; JSON and Parquet hold exactly the float32 that were forecast.
    """
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"{out}: want a name that ends in .csv or .parquet")
    from edge_tsfm.data import DataOptions
    from edge_tsfm.runs.forecasts import Asked, forecast_data
    from edge_tsfm.runs.hub import open_place

    asked = Asked(**taken(Asked, given), accept=accept, reading=DataOptions.of(given))

    def opened(forecaster: Forecaster) -> None:
        require_use_said(forecaster)
        warn_of_use(forecaster)
        context_steps(forecaster, asked.context_length)

    place, blob = open_place(bundle, adapter)
    found = forecast_data(place, data, asked, adapter=blob, opened=opened)
    warn_of_accepted(found.forecast)
    for where, why in found.left_out.items():
        leave_out("edge-tsfm", where, why)
    if as_json:
        click.echo(json.dumps(_record(found)))
    else:
        _write(_table(found), out)
    if found.left_out:
        click.get_current_context().exit(LEFT_OUT)


def _record(found: Forecasts) -> dict[str, Any]:
    """Compose the JSON: which base and adapter, and a record for each item, target and step."""
    from device_runtime.digits import shortest

    forecast = found.forecast
    rows = []
    for place, row in zip(found.rows(), shortest(forecast.quantiles.reshape(-1, len(found.levels))), strict=True):
        if len(found.targets) == 1:
            del place["target_name"]
        if found.series[0].start is not None:
            place["timestamp"] = place["timestamp"].isoformat()
        rows.append(place | dict(zip(found.levels, row, strict=True)))
    identity = {"base": forecast.base, "adapter": forecast.adapter, "adapter_version": forecast.adapter_version}
    identity |= said_use(forecast)
    signal = found.dataset.signal
    return {**identity, "target": signal, "channel": signal, "forecasts": rows, "left_out": dict(found.left_out)}


def _table(found: Forecasts) -> pd.DataFrame:
    """Compose the table: a row for each item, target and step, and which base and adapter forecast it."""
    forecast = found.forecast
    frame = found.frame().assign(base=forecast.base[:16], adapter=(forecast.adapter or "none")[:16])
    if len(found.targets) == 1:
        frame = frame.drop(columns="target_name")
    if forecast.accepted_differences:
        frame = frame.assign(accepted_differences=" ".join(forecast.accepted_differences))
    return frame


def _write(frame: pd.DataFrame, out: Path | None) -> None:
    """Print or write the table: CSV with significant digits, Parquet with the float32 that were forecast."""
    from device_runtime.cli.formulas import warn_of_formulas
    from device_runtime.digits import SIGNIFICANT
    from device_runtime.files import write_atomic

    if out is not None and out.suffix == ".parquet":
        write_atomic(out, frame.to_parquet(index=False))
        return
    warn_of_formulas("edge-tsfm", (str(cell) for name in ("item_id", "target_name") for cell in frame.get(name, ())))
    text = frame.to_csv(index=False, float_format=f"%.{SIGNIFICANT}g")
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())
