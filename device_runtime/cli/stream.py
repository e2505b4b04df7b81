"""``edge-tsfm-device stream``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.ending import Ending
from device_runtime.cli.options import (
    accept_option,
    adapter_option,
    context_steps,
    said_use,
    session_options,
    settings,
    settled_threads,
    warn_of_use,
)
from device_runtime.cli.renamed import renamed_option
from device_runtime.errors import InputError

if TYPE_CHECKING:
    from device_runtime.forecast.stream import Stream


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@adapter_option
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A monitor's settings: forecast with what is installed, instead of BUNDLE and --adapter.",
)
@renamed_option(
    "--signal",
    "names",
    old="--channel",
    multiple=True,
    required=True,
    help="What to forecast: NAME, NAME=SIGNAL or either with :LOW:HIGH. The name is the signal unless one is said; "
    "its plausible range holds unless LOW and HIGH are.",
)
@click.option("--interval", default="1min", help="Time between steps, such as 1h, 60s or 250ms.")
@click.option("--context-length", type=click.IntRange(1), default=48, help="Steps to keep for each signal.")
@click.option("--prediction-length", type=click.IntRange(1), default=6, help="Steps to forecast.")
@click.option(
    "--min-observed", type=click.IntRange(1), default=12, help="Least number of observed steps for a forecast."
)
@accept_option
@session_options
def command(
    bundle: Path | None,
    adapter: Path | None,
    config_path: Path | None,
    names: tuple[str, ...],
    interval: str,
    context_length: int,
    prediction_length: int,
    min_observed: int,
    accept: tuple[str, ...],
    **session: Any,
) -> None:
    """Read samples ``name,t_ms,value`` from standard input, one a line; print a forecast for each new step as JSON.

    An empty value is a missing one. A line that cannot be read (also one that is not text or longer than 4,096 bytes),
    or a signal with too few values to forecast, is answered with a JSON line that has an "error"; the stream continues.
    The quantiles read back as exactly the float32 values that were forecast. ``name,t_ms,end`` says that a stay is
    over; ``name,t_ms,value,item`` names the item of a sample, and a new item begins a new stay.

    With --config the stream runs what `install` and `update` installed, picks up what they change while it runs, and
    judges an adapter on trial by its forecasts: it is confirmed after the health window, or rolled back on failure.
    Forecasts are scored once their targets have arrived, beside the frozen base's: `quality` shows the scores.
    If the settings have [adapt], the monitor learns from finished stays while no line waits: `adapt` shows what.

    If it must run something other than what is installed, each forecast has a "fallback" that says why, standard error
    says it once, and after a fault of the machine the installed adapter is tried again.

    SIGTERM, SIGINT and SIGHUP end it after the current line, like the end of the input: figures are written.
    """
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.forecast.stream import Stream
    from device_runtime.update.host import Host

    interval_ms = _milliseconds(interval)
    signals = tuple(_signal(name, interval_ms) for name in names)
    if (bundle is None) == (config_path is None) or (adapter is not None and bundle is None):
        raise click.UsageError("want either BUNDLE, perhaps with --adapter, or --config")
    if accept and config_path is not None:
        raise click.UsageError("--accept-difference: a monitor's settings say accept_differences")
    if session["provider"] is not None and config_path is not None:
        raise click.UsageError("--provider: a monitor's settings say it in [session]")
    forecaster = _forecaster(bundle, adapter, config_path, accept, session)
    if isinstance(forecaster, Forecaster):  # a monitor's host may get another adapter: it is asked at each forecast
        for signal in signals:
            forecaster.check(replace(signal.use, context_length=context_length, prediction_length=prediction_length))
        warn_of_use(forecaster)
    context_steps(forecaster if config_path is None else forecaster.started.running, context_length)
    stream = Stream(
        forecaster,
        signals,
        context_length=context_length,
        min_observed=min_observed,
    )
    said = _say_problem(stream.forecaster, "")
    with Ending() as ending:
        try:
            _run(stream, ending, prediction_length, said)
        finally:
            if isinstance(forecaster, Host):
                forecaster.close()
    click.echo(json.dumps({"counts": dict(stream.counts)}), err=True)
    ending.pass_on()


def _run(stream: Stream, ending: Ending, prediction_length: int, said: str) -> None:
    """Answer each line of standard input; ``said`` is the last problem that standard error has."""
    from device_runtime.digits import shortest
    from device_runtime.errors import DeviceRuntimeError
    from device_runtime.forecast.feed import read_event, read_lines, read_lines_between
    from device_runtime.update.host import Host

    host, feed = stream.forecaster, sys.stdin.buffer
    idle = ending.unbroken(host.idle) if isinstance(host, Host) and host.learns else None
    lines = read_lines(feed) if idle is None else read_lines_between(feed, idle)
    for number, line in enumerate(ending.lines(lines), start=1):
        if not line.strip():
            continue
        try:
            name, t_ms, value, item, ends = read_event(line, number)
            if ends:
                stream.end_stay(name)
                continue
            if item is not None:
                stream.of_item(name, item)
            if not stream.push(name, t_ms, value):
                continue
            forecast = stream.forecast(name, prediction_length)
        except DeviceRuntimeError as error:
            said = _say_problem(stream.forecaster, said)
            click.echo(json.dumps({"line": number, "error": error.code, "message": str(error)}))
            continue
        said = _say_problem(stream.forecaster, said)
        click.echo(
            json.dumps(
                {
                    "name": name,
                    "channel": name,  # the old key, for this release
                    "t_ms": t_ms,
                    "quantile_levels": list(forecast.quantile_levels),
                    "quantiles": shortest(forecast.quantiles),
                    "base": forecast.base[:16],
                    "adapter": forecast.adapter and forecast.adapter[:16],
                    "adapter_version": forecast.adapter_version,
                    **_said_own(forecast),
                    **said_use(forecast),
                    **({"fallback": said} if said else {}),
                }
            )
        )


def _said_own(forecast: Any) -> dict[str, Any]:
    """Return what a forecast's record says of what the monitor learnt itself: nothing where it learnt nothing."""
    own = {} if forecast.generation is None else {"origin": "device", "generation": forecast.generation}
    if forecast.tracked is None:
        return own
    return {**own, "tracked": forecast.tracked, "width_factor": forecast.width_factor}


def _say_problem(forecaster: Any, said: str) -> str:
    """Print on standard error why something else runs than was installed, once for each reason; return the reason."""
    problem = str(getattr(forecaster, "problem", ""))
    if problem != said:
        click.echo(f"fallback: {problem}" if problem else "fallback: ended, the installed adapter runs again", err=True)
    return problem


def _forecaster(
    bundle: Path | None,
    adapter: Path | None,
    config_path: Path | None,
    accept: tuple[str, ...],
    session: dict[str, Any],
) -> Any:
    """Open a bundle with an adapter, or what a monitor has installed."""
    from device_runtime.cli.signed_only import check_signed
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecaster

    if bundle is not None:
        data, base = check_signed(adapter), Bundle.open(bundle)
        used = settled_threads(base, settings(**session))
        return Forecaster.open(base, data, settings=used, accept=accept)
    from device_runtime.monitor import in_place, installer_of, workshop_of
    from device_runtime.update.host import Host
    from device_runtime.update.report import reporter
    from device_runtime.update.settings import read_config

    assert config_path is not None
    config = read_config(config_path)
    used = settled_threads(Bundle.open(config.bundle), in_place(config, settings(**session)))
    installer, workshop = installer_of(config, settings=used), workshop_of(config, settings=used)
    return Host(config, installer.open, changed=reporter(config, installer.base_digest.hex()), workshop=workshop)


def _signal(text: str, interval_ms: int) -> Any:
    """Read NAME or NAME=SIGNAL, perhaps with :LOW:HIGH; without them the signal's own plausible range."""
    from device_runtime.forecast.stream import StreamSignal
    from device_runtime.series.signals import find_signal

    named, *limits = text.split(":")
    name, _, signal = named.partition("=")
    known = find_signal(signal or name)
    try:
        if limits:
            low, high = (float(limit) for limit in limits)
        else:
            low, high = (float("-inf"), float("inf")) if known is None else (known.low, known.high)
        return StreamSignal(name=name, interval_ms=interval_ms, low=low, high=high, signal=signal)
    except ValueError:
        raise click.BadParameter(
            f"want NAME or NAME=SIGNAL, perhaps with :LOW:HIGH, got {text!r}", param_hint="--signal"
        ) from None


def _milliseconds(interval: str) -> int:
    """Read the time between steps; a feed counts milliseconds."""
    from device_runtime.series.duration import parse_duration

    span = parse_duration(interval, what="--interval")
    if span % 1_000:
        raise InputError(f"--interval {interval}: want whole milliseconds, which the feed's times are in")
    return span // 1_000
