"""``edge-tsfm-device forecast``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from device_runtime.cli.asked import TOGETHER, covariate_options, length_options, sampling_options, taken
from device_runtime.cli.options import (
    accept_option,
    adapter_option,
    bundle_argument,
    context_steps,
    json_option,
    require_use_said,
    said_use,
    session_options,
    settings,
    settled_threads,
    warn_of_accepted,
    warn_of_use,
)
from device_runtime.cli.outcome import LEFT_OUT, leave_out
from device_runtime.cli.read_options import min_observed_option, read_options

if TYPE_CHECKING:
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecast, Forecaster
    from device_runtime.forecast.items import Asked
    from device_runtime.forecast.session import SessionSettings
    from device_runtime.format.binding import Binding, Use
    from device_runtime.series.several import Items


@click.command()
@bundle_argument
@adapter_option
@click.option("--input", "source", type=click.File("rb"), required=True, help="CSV of series, or - for standard input.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    help=f"Vital sign or column; {TOGETHER}  [default: the only value column]",
)
@covariate_options
@read_options
@min_observed_option("12, or as many as the context has steps")
@length_options(
    context="what the adapter is for, else the base's own", prediction="what the adapter is for, else the base's own"
)
@click.option(
    "--quantile-levels",
    callback=lambda ctx, param, text: _levels(text),
    help="Levels, comma-separated.  [default: the base's own]",
)
@sampling_options
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="CSV to write.  [default: print]")
@accept_option
@session_options
@json_option
def command(
    bundle: Path,
    adapter: Path | None,
    source: IO[bytes],
    output: Path | None,
    as_json: bool,
    accept: tuple[str, ...],
    **given: Any,
) -> None:
    """Forecast the series of a CSV file with a BUNDLE, merged with an adapter if one is given.

    The file is read by the rules of SERIES.md, as on the workstation; an empty cell is a missing value. Without a time
    column each row is the next step of its item. With --future-covariate each series must end with --prediction-length
    rows that hold only values known ahead. Nothing is forecast unless the adapter passes its known-answer test; an
    adapter for another signal, unit or interval than the file's is refused.

    An item that cannot be forecast is named on standard error and left out; the others are forecast, and the command
    exits with status 4. CSV has 7 significant digits, JSON reads back as exactly the float32 that were forecast.
    """
    from device_runtime.cli.signed_only import check_signed
    from device_runtime.errors import InputError
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.items import Asked, forecast_items, use_of
    from device_runtime.forecast.session import SessionSettings
    from device_runtime.forecast.uses import binding_of

    given["targets"] = given["targets"] or (None,)
    asked = Asked(**taken(Asked, given))
    session = settings(**taken(SessionSettings, given))
    data = check_signed(adapter)
    base = Bundle.open(bundle)
    session = settled_threads(base, session)
    bound = binding_of(data, named=adapter)
    steps = asked.prediction_length or (bound or base.manifest).prediction_length
    read = _read(source, asked, steps, bound, given)
    forecaster = _opened(base, data, adapter, use_of(read, asked.targets, bound), accept, session)
    length = context_steps(forecaster, asked.context_length)
    forecaster.check(replace(forecaster.use, context_length=length, prediction_length=steps))
    made = forecast_items(forecaster, read, asked, steps=steps, length=length)
    for item, why in sorted(made.left_out.items()):
        leave_out("edge-tsfm-device", f"item {item}", why)
    if not made.forecasts:
        raise InputError(f"{source.name}: none of its {len(made.left_out)} items can be forecast")
    warn_of_accepted(next(iter(made.forecasts.values())))
    _write(made.forecasts, asked.targets, output, as_json=as_json)
    if made.left_out:
        click.get_current_context().exit(LEFT_OUT)


def _read(source: IO[bytes], asked: Asked, steps: int, bound: Binding | None, reading: dict[str, Any]) -> Items:
    """Read the file's series, and say on standard error as what."""
    from device_runtime.series import several
    from device_runtime.series.dialect import read_csv
    from device_runtime.series.options import ReadOptions

    read = several.read_items(
        read_csv(source.read(several.MAX_TABLE_SIZE + 1), source.name, limit=several.MAX_TABLE_SIZE),
        targets=asked.targets,
        past_covariates=asked.past_covariates,
        future_covariates=asked.future_covariates,
        prediction_length=steps,
        options=ReadOptions(**reading, rows_are_steps=True, signal=bound.own_signal if bound else None),
    )
    for line in (read.summary(), *read.notes):
        click.echo(f"{source.name}: {line}", err=True)
    return read


def _opened(
    base: Bundle,
    data: bytes | None,
    adapter: Path | None,
    use: Use,
    accept: tuple[str, ...],
    session: SessionSettings,
) -> Forecaster:
    """Open what will forecast; an adapter for something else is refused, one that is unbound said."""
    from device_runtime.files import about
    from device_runtime.forecast.forecaster import Forecaster

    with about(adapter or base.path):
        forecaster = Forecaster.open(base, data, settings=session, use=use, accept=accept)
    require_use_said(forecaster)
    warn_of_use(forecaster)
    return forecaster


def _write(
    forecasts: Mapping[str, Forecast], targets: tuple[str | None, ...], output: Path | None, *, as_json: bool
) -> None:
    """Print or write the forecasts of all items."""
    if as_json:
        records = [record for item, one in forecasts.items() for record in _records(item, one, targets)]
        _emit(json.dumps(records) + "\n", output)
        return
    from device_runtime.cli.formulas import warn_of_formulas
    from device_runtime.digits import say

    warn_of_formulas("edge-tsfm-device", [*forecasts, *(str(target) for target in targets)])
    beside = ["target_name"] if len(targets) > 1 else []
    any_one = next(iter(forecasts.values()))
    used = _columns_of_use(any_one)
    named = [f"{level:g}" for level in any_one.quantile_levels]
    lines = [["item_id", *beside, "step", *named, "base", "adapter", *used]]
    for item, forecast in forecasts.items():
        names = [forecast.base[:16], (forecast.adapter or "none")[:16], *used.values()]
        lines += [
            [item, *([str(target)] if beside else []), str(step + 1), *(say(value) for value in row), *names]
            for target, quantiles in _by_target(forecast, targets)
            for step, row in enumerate(quantiles)
        ]
    _emit(_csv(lines), output)


def _columns_of_use(forecast: Forecast) -> dict[str, str]:
    """Return the columns that say what the adapter is for: of the frozen base alone there is none."""
    said = {"signal": forecast.binding.name} if forecast.binding else {}
    if forecast.unbound:
        said["unbound"] = "true"
    if forecast.accepted_differences:
        said["accepted_differences"] = " ".join(forecast.accepted_differences)
    return said


def _by_target(forecast: Forecast, targets: tuple[str | None, ...]) -> Iterator[tuple[str | None, Any]]:
    """Pair every target with its quantiles ``[H, Q]``."""
    each = forecast.quantiles if len(targets) > 1 else forecast.quantiles[None]
    return zip(targets, each, strict=True)


def _records(item: str, forecast: Forecast, targets: tuple[str | None, ...]) -> list[dict[str, Any]]:
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
            **said_use(forecast),
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
