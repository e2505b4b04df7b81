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
    warn_of_accepted,
    warn_of_use,
)
from device_runtime.cli.outcome import LEFT_OUT, leave_out
from device_runtime.cli.read_options import min_observed_option, read_options

if TYPE_CHECKING:
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecast, Forecaster
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
    help="Vital sign or column; several are forecast jointly (Chronos-2).  [default: the only value column]",
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
@click.option(
    "--prediction-length",
    type=click.IntRange(1),
    help="Steps to forecast.  [default: what the adapter is for, else the base's own]",
)
@click.option(
    "--context-length",
    type=click.IntRange(1),
    help="Latest steps to use.  [default: what the adapter is for, else the base's own]",
)
@click.option("--quantile-levels", help="Levels, comma-separated.  [default: the base's own]")
@click.option("--num-samples", type=click.IntRange(1), help="Paths to sample (Chronos-T5).  [default: the base's own]")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the sampled paths (Chronos-T5).")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="CSV to write.  [default: print]")
@accept_option
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
    accept: tuple[str, ...],
    threads: int,
    spinning: bool,
    providers: tuple[str, ...],
    min_observed: int | None,
    **reading: Any,
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
    from device_runtime.errors import DeviceRuntimeError, ForecastError, InputError
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.uses import binding_of
    from device_runtime.series import several
    from device_runtime.series.dialect import read_csv
    from device_runtime.series.options import ReadOptions

    targets = targets or (None,)
    levels = _levels(quantile_levels)
    data = check_signed(adapter)
    base = Bundle.open(bundle)
    bound = binding_of(data, named=adapter)
    steps = prediction_length or (bound or base.manifest).prediction_length
    read = several.read_items(
        read_csv(source.read(several.MAX_TABLE_SIZE + 1), source.name, limit=several.MAX_TABLE_SIZE),
        targets=targets,
        past_covariates=past,
        future_covariates=future,
        prediction_length=steps,
        options=ReadOptions(**reading, rows_are_steps=True, signal=bound.own_signal if bound else None),
    )
    for line in (read.summary(), *read.notes):
        click.echo(f"{source.name}: {line}", err=True)
    forecaster = _opened(
        base, data, adapter, _use(read, targets, bound), accept, settings(threads, spinning, providers)
    )
    length = context_steps(forecaster, context_length)
    forecaster.check(replace(forecaster.use, context_length=length, prediction_length=steps))
    left_out: dict[str, str] = {item: str(why) for item, why in read.faults.items()}
    left_out |= dict.fromkeys(read.empty_items, "not one usable value")
    forecasts: dict[str, Forecast] = {}
    failed: dict[str, DeviceRuntimeError] = {}
    for item, one in read.items.items():
        try:
            context = one.context(length, min_observed)
            forecasts[item] = forecaster.forecast(
                context if len(targets) > 1 else context[0],
                steps,
                levels,
                num_samples=num_samples,
                seed=seed,
                groups=[0] * len(targets) if len(targets) > 1 else None,
                past_covariates={name: values[-length:] for name, values in one.past_covariates.items()},
                future_covariates=one.future_covariates,
            )
        except (InputError, ForecastError) as error:
            failed[item] = error
    if not forecasts and not left_out and len({str(why) for why in failed.values()}) == 1:
        raise next(iter(failed.values()))  # what is wrong is not an item's
    left_out |= {item: f"{why} ({why.hint})" if why.hint else str(why) for item, why in failed.items()}
    for item, why in sorted(left_out.items()):
        leave_out("edge-tsfm-device", f"item {item}", why)
    if not forecasts:
        raise InputError(f"{source.name}: none of its {len(left_out)} items can be forecast")
    warn_of_accepted(next(iter(forecasts.values())))
    _write(forecasts, targets, output, as_json=as_json)
    if left_out:
        click.get_current_context().exit(LEFT_OUT)


def _use(read: Items, targets: tuple[str | None, ...], bound: Binding | None) -> Use:
    """Describe what is about to be forecast; a column just named ``value`` does not state its signal."""
    from device_runtime.forecast.uses import signal_of
    from device_runtime.format.binding import Use

    first = read.readings[0]
    signal: str | None = signal_of([one.target.name for one in read.readings[: len(targets)]], bound)
    if targets == (None,) and first.signal is None and not (bound and bound.is_signal(first.target.name)):
        signal = None
    return Use(signal=signal, unit=first.signal.ucum if first.signal else None, interval_us=read.interval_us)


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
    from device_runtime.digits import say

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
