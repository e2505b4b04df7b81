"""``edge-tsfm-device forecast``."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import IO, Any

import click

from device_runtime.cli.options import adapter_option, bundle_argument, json_option, session_options, settings


@click.command()
@bundle_argument
@adapter_option
@click.option("--input", "source", type=click.File("r"), required=True, help="CSV of series, or - for standard input.")
@click.option("--target", default="target", help="Column of the values.")
@click.option("--id-column", default="item_id", help="Column that tells series apart, if there is one.")
@click.option("--prediction-length", type=int, help="Steps to forecast.  [default: the base's own]")
@click.option("--context-length", type=int, help="Latest steps to use.  [default: the base's own]")
@click.option("--quantile-levels", help="Levels, comma-separated.  [default: the base's own]")
@click.option("--num-samples", type=click.IntRange(1), help="Paths to sample (Chronos-T5).  [default: the base's own]")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which paths to sample (Chronos-T5).")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="CSV to write.  [default: print]")
@session_options
@json_option
def command(
    bundle: Path,
    adapter: Path | None,
    source: IO[str],
    target: str,
    id_column: str,
    prediction_length: int | None,
    context_length: int | None,
    quantile_levels: str | None,
    num_samples: int | None,
    seed: int,
    output: Path | None,
    as_json: bool,
    **session: Any,
) -> None:
    """Forecast the series of a CSV file with a BUNDLE, merged with an adapter if one is given.

    One row for each step, in time order; an empty cell is a missing value. Nothing is forecast unless the adapter
    passes its known-answer test.
    """
    from device_runtime.forecaster import Forecaster
    from device_runtime.table import MAX_TABLE_SIZE, read_contexts

    levels = _levels(quantile_levels)
    text = source.read(MAX_TABLE_SIZE)
    contexts = read_contexts(text, target=target, id_column=id_column, where=source.name)
    forecaster = Forecaster.open(bundle, adapter, settings=settings(**session))
    forecasts = {
        item: forecaster.forecast(
            series[-context_length:] if context_length else series,
            prediction_length,
            levels,
            num_samples=num_samples,
            seed=seed,
        )
        for item, series in contexts.items()
    }
    if as_json:
        rows = [
            {
                "item_id": item,
                "quantile_levels": list(forecast.quantile_levels),
                "quantiles": [[round(float(value), 4) for value in step] for step in forecast.quantiles],
                "base": forecast.base,
                "adapter": forecast.adapter,
                "adapter_version": forecast.adapter_version,
            }
            for item, forecast in forecasts.items()
        ]
        _emit(json.dumps(rows) + "\n", output)
        return
    lines = [
        [
            "item_id",
            "step",
            *(f"{level:g}" for level in next(iter(forecasts.values())).quantile_levels),
            "base",
            "adapter",
        ]
    ]
    for item, forecast in forecasts.items():
        names = [forecast.base[:12], (forecast.adapter or "none")[:12]]
        lines += [
            [item, str(step + 1), *(f"{value:.2f}" for value in row), *names]
            for step, row in enumerate(forecast.quantiles)
        ]
    _emit(_csv(lines), output)


def _levels(text: str | None) -> tuple[float, ...] | None:
    """Read comma-separated quantile levels."""
    if text is None:
        return None
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError:
        raise click.BadParameter(f"want numbers between commas, got {text!r}", param_hint="--quantile-levels") from None


def _csv(lines: list[list[str]]) -> str:
    """Write rows as CSV text."""
    import io

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _emit(text: str, output: Path | None) -> None:
    """Print, or write the file whole."""
    if output is None:
        sys.stdout.write(text)
        return
    from device_runtime.files import write_atomic

    write_atomic(output, text.encode())
