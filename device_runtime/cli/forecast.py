"""``edge-tsfm-device forecast``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from device_runtime.cli.options import adapter_option, bundle_argument, json_option, session_options, settings
from device_runtime.cli.read_options import min_observed_option, read_options

if TYPE_CHECKING:
    from device_runtime.forecaster import Forecast


@click.command()
@bundle_argument
@adapter_option
@click.option("--input", "source", type=click.File("rb"), required=True, help="CSV of series, or - for standard input.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Vital sign or column; several are forecast together (Chronos-2).  [default: the only value column]",
)
@click.option("--past-covariate", "past", multiple=True, help="Column measured beside the target (Chronos-2).")
@click.option(
    "--future-covariate",
    "future",
    multiple=True,
    help="Column also known ahead (Chronos-2): in the last rows, which are the steps to forecast.",
)
@read_options
@min_observed_option("12, or as many as the context has steps")
@click.option("--prediction-length", type=click.IntRange(1), help="Steps to forecast.  [default: the base's own]")
@click.option("--context-length", type=click.IntRange(1), help="Latest steps to use.  [default: the base's own]")
@click.option("--quantile-levels", help="Levels, comma-separated.  [default: the base's own]")
@click.option("--num-samples", type=click.IntRange(1), help="Paths to sample (Chronos-T5).  [default: the base's own]")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which paths to sample (Chronos-T5).")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="CSV to write.  [default: print]")
@session_options
@json_option
def command(
    bundle: Path,
    adapter: Path | None,
    source: IO[bytes],
    targets: tuple[str | None, ...],
    past: tuple[str, ...],
    future: tuple[str, ...],
    prediction_length: int | None,
    context_length: int | None,
    quantile_levels: str | None,
    num_samples: int | None,
    seed: int,
    output: Path | None,
    as_json: bool,
    threads: int,
    spinning: bool,
    providers: tuple[str, ...],
    min_observed: int | None,
    **reading: Any,
) -> None:
    """Forecast the series of a CSV file with a BUNDLE, merged with an adapter if one is given.

    The file is read by the rules of SERIES.md, as the workstation reads it; an empty cell is a missing value. Without a
    column of times each row is the next step of its item. With --future-covariate each series ends with
    --prediction-length rows that hold what is known ahead and nothing else. Nothing is forecast unless the adapter
    passes its known-answer test.
    """
    from device_runtime.forecaster import Forecaster
    from device_runtime.series import several
    from device_runtime.series.dialect import read_csv
    from device_runtime.series.options import ReadOptions

    targets = targets or (None,)
    levels = _levels(quantile_levels)
    options = ReadOptions(**reading, rows_are_steps=True)
    cells = read_csv(source.read(several.MAX_TABLE_SIZE + 1), source.name, limit=several.MAX_TABLE_SIZE)
    forecaster = Forecaster.open(bundle, adapter, settings=settings(threads, spinning, providers))
    read = several.read_items(
        cells,
        targets=targets,
        past_covariates=past,
        future_covariates=future,
        prediction_length=prediction_length or forecaster.bundle.manifest.prediction_length,
        options=options,
    )
    for line in (read.summary(), *read.notes):
        click.echo(f"{source.name}: {line}", err=True)
    for item, fault in read.faults.items():
        click.echo(f"{source.name}: item {item} left out: {fault}", err=True)
    for item in read.empty_items:
        click.echo(f"{source.name}: item {item} left out: not one usable value", err=True)
    length = context_length or 0  # 0: all
    kept = -length
    contexts = {item: one.context(length, min_observed, f"{source.name}: {item}") for item, one in read.items.items()}
    forecasts = {
        item: forecaster.forecast(
            contexts[item] if len(targets) > 1 else contexts[item][0],
            prediction_length,
            levels,
            num_samples=num_samples,
            seed=seed,
            groups=[0] * len(targets) if len(targets) > 1 else None,
            past_covariates={name: values[kept:] for name, values in one.past_covariates.items()},
            future_covariates=one.future_covariates,
        )
        for item, one in read.items.items()
    }
    if as_json:
        records = [record for item, one in forecasts.items() for record in _records(item, one, targets)]
        _emit(json.dumps(records) + "\n", output)
        return
    beside = ["target_name"] if len(targets) > 1 else []
    named = [f"{level:g}" for level in next(iter(forecasts.values())).quantile_levels]
    lines = [["item_id", *beside, "step", *named, "base", "adapter"]]
    for item, forecast in forecasts.items():
        names = [forecast.base[:12], (forecast.adapter or "none")[:12]]
        lines += [
            [item, *([str(target)] if beside else []), str(step + 1), *(f"{value:.2f}" for value in row), *names]
            for target, quantiles in _by_target(forecast, targets)
            for step, row in enumerate(quantiles)
        ]
    _emit(_csv(lines), output)


def _by_target(forecast: Forecast, targets: tuple[str | None, ...]) -> Iterator[tuple[str | None, Any]]:
    """Pair every target with its quantiles ``[H, Q]``."""
    each = forecast.quantiles if len(targets) > 1 else forecast.quantiles[None]
    return zip(targets, each, strict=True)


def _records(item: str, forecast: Forecast, targets: tuple[str | None, ...]) -> list[dict[str, Any]]:
    """Return a forecast as JSON-ready records, one for each target."""
    return [
        {
            "item_id": item,
            **({"target_name": target} if len(targets) > 1 else {}),
            "quantile_levels": list(forecast.quantile_levels),
            "quantiles": [[round(float(value), 4) for value in step] for step in quantiles],
            "base": forecast.base,
            "adapter": forecast.adapter,
            "adapter_version": forecast.adapter_version,
        }
        for target, quantiles in _by_target(forecast, targets)
    ]


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
