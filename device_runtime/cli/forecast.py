"""``edge-tsfm-device forecast``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from device_runtime.cli.options import (
    adapter_option,
    bundle_argument,
    context_steps,
    json_option,
    session_options,
    settings,
)
from device_runtime.cli.outcome import LEFT_OUT, leave_out

if TYPE_CHECKING:
    from device_runtime.errors import DeviceRuntimeError
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
    adapter passes its known-answer test. An item that cannot be forecast is named on standard error and left out; the
    others are forecast, and the command exits with status 4.

    CSV has 7 significant digits, JSON reads back as exactly the float32 that were forecast.
    """
    from device_runtime.cli.signed_only import check_signed
    from device_runtime.errors import ForecastError, InputError
    from device_runtime.forecaster import Forecaster
    from device_runtime.table import MAX_TABLE_SIZE, read_items

    levels = _levels(quantile_levels)
    try:
        text = source.read(MAX_TABLE_SIZE + 1)
    except UnicodeDecodeError as error:
        raise InputError(f"{source.name}: not a CSV file in UTF-8: {error.reason} at byte {error.start}") from error
    if len(text) > MAX_TABLE_SIZE:
        raise InputError(
            f"{source.name}: more than {MAX_TABLE_SIZE:,} characters", hint="forecast fewer series at a time"
        )
    forecaster = Forecaster.open(bundle, check_signed(adapter), settings=settings(**session))
    kept = -context_steps(forecaster, context_length)
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
    forecasts: dict[str, Forecast] = {}
    left_out: dict[str, DeviceRuntimeError] = {}
    for item, one in items.items():
        try:
            forecasts[item] = forecaster.forecast(
                one.targets[:, kept:] if len(targets) > 1 else one.targets[0, kept:],
                prediction_length,
                levels,
                num_samples=num_samples,
                seed=seed,
                groups=[0] * len(targets) if len(targets) > 1 else None,
                past_covariates={name: values[kept:] for name, values in one.past_covariates.items()},
                future_covariates=one.future_covariates,
            )
        except (InputError, ForecastError) as error:
            left_out[item] = error
    if len({str(why) for why in left_out.values()}) == 1 and not forecasts:
        raise next(iter(left_out.values()))  # what is wrong is not an item's
    for item, why in left_out.items():
        leave_out("edge-tsfm-device", f"item {item}", str(why))
    if not forecasts:
        raise InputError(f"{source.name}: none of its {len(items)} items can be forecast")
    _write(forecasts, targets, output, as_json=as_json)
    if left_out:
        click.get_current_context().exit(LEFT_OUT)


def _write(forecasts: Mapping[str, Forecast], targets: tuple[str, ...], output: Path | None, *, as_json: bool) -> None:
    """Print or write the forecasts of all items."""
    if as_json:
        records = [record for item, one in forecasts.items() for record in _records(item, one, targets)]
        _emit(json.dumps(records) + "\n", output)
        return
    from device_runtime.digits import say

    several = ["target_name"] if len(targets) > 1 else []
    named = [f"{level:g}" for level in next(iter(forecasts.values())).quantile_levels]
    lines = [["item_id", *several, "step", *named, "base", "adapter"]]
    for item, forecast in forecasts.items():
        names = [forecast.base[:16], (forecast.adapter or "none")[:16]]
        lines += [
            [item, *([target] if several else []), str(step + 1), *(say(value) for value in row), *names]
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
    from device_runtime.digits import shortest

    return [
        {
            "item_id": item,
            **({"target_name": target} if len(targets) > 1 else {}),
            "quantile_levels": list(forecast.quantile_levels),
            "quantiles": shortest(quantiles),
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
