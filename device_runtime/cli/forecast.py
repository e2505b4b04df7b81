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

if TYPE_CHECKING:
    from device_runtime.forecaster import Forecast


@click.command()
@bundle_argument
@adapter_option
@click.option("--input", "source", type=click.File("r"), required=True, help="CSV of series, or - for standard input.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=("target",),
    show_default=True,
    help="Column of the values; several are forecast together (Chronos-2).",
)
@click.option("--past-covariate", "past", multiple=True, help="Column measured beside the target (Chronos-2).")
@click.option(
    "--future-covariate",
    "future",
    multiple=True,
    help="Column also known ahead (Chronos-2): in the last rows, which are the steps to forecast.",
)
@click.option("--id-column", default="item_id", help="Column that tells series apart, if there is one.")
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
    source: IO[str],
    targets: tuple[str, ...],
    past: tuple[str, ...],
    future: tuple[str, ...],
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

    One row for each step, in time order; an empty cell is a missing value. With --future-covariate each series ends
    with --prediction-length rows that hold what is known ahead and nothing else. Nothing is forecast unless the
    adapter passes its known-answer test.
    """
    from device_runtime.cli.signed_only import check_signed
    from device_runtime.errors import InputError
    from device_runtime.forecaster import Forecaster
    from device_runtime.table import MAX_TABLE_SIZE, read_items

    levels = _levels(quantile_levels)
    text = source.read(MAX_TABLE_SIZE + 1)
    if len(text) > MAX_TABLE_SIZE:
        raise InputError(
            f"{source.name}: more than {MAX_TABLE_SIZE:,} characters", hint="forecast fewer series at a time"
        )
    forecaster = Forecaster.open(bundle, check_signed(adapter), settings=settings(**session))
    steps = prediction_length or forecaster.bundle.manifest.prediction_length
    items = read_items(
        text,
        targets=targets,
        past_covariates=past,
        future_covariates=future,
        prediction_length=steps,
        id_column=id_column,
        where=source.name,
    )
    kept = -(context_length or 0)  # 0: all
    forecasts = {
        item: forecaster.forecast(
            one.targets[:, kept:] if len(targets) > 1 else one.targets[0, kept:],
            prediction_length,
            levels,
            num_samples=num_samples,
            seed=seed,
            groups=[0] * len(targets) if len(targets) > 1 else None,
            past_covariates={name: values[kept:] for name, values in one.past_covariates.items()},
            future_covariates=one.future_covariates,
        )
        for item, one in items.items()
    }
    if as_json:
        records = [record for item, one in forecasts.items() for record in _records(item, one, targets)]
        _emit(json.dumps(records) + "\n", output)
        return
    several = ["target_name"] if len(targets) > 1 else []
    named = [f"{level:g}" for level in next(iter(forecasts.values())).quantile_levels]
    lines = [["item_id", *several, "step", *named, "base", "adapter"]]
    for item, forecast in forecasts.items():
        names = [forecast.base[:12], (forecast.adapter or "none")[:12]]
        lines += [
            [item, *([target] if several else []), str(step + 1), *(f"{value:.2f}" for value in row), *names]
            for target, quantiles in _by_target(forecast, targets)
            for step, row in enumerate(quantiles)
        ]
    _emit(_csv(lines), output)


def _by_target(forecast: Forecast, targets: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Pair every target with its quantiles ``[H, Q]``."""
    each = forecast.quantiles if len(targets) > 1 else forecast.quantiles[None]
    return zip(targets, each, strict=True)


def _records(item: str, forecast: Forecast, targets: tuple[str, ...]) -> list[dict[str, Any]]:
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
