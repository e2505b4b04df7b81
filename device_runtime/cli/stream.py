"""``edge-tsfm-device stream``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.options import adapter_option, session_options, settings
from device_runtime.errors import InputError


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@adapter_option
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A monitor's settings: forecast with what is installed, in place of BUNDLE and --adapter.",
)
@click.option("--channel", "names", multiple=True, required=True, help="Channel to forecast, NAME or NAME:LOW:HIGH.")
@click.option("--interval", "interval_ms", type=click.IntRange(1), default=60_000, help="Milliseconds between steps.")
@click.option("--context-length", type=click.IntRange(1), default=48, help="Steps to keep for each channel.")
@click.option("--prediction-length", type=click.IntRange(1), default=6, help="Steps to forecast.")
@click.option(
    "--min-observed", type=click.IntRange(1), default=12, help="Observed steps below which nothing is forecast."
)
@session_options
def command(
    bundle: Path | None,
    adapter: Path | None,
    config_path: Path | None,
    names: tuple[str, ...],
    interval_ms: int,
    context_length: int,
    prediction_length: int,
    min_observed: int,
    **session: Any,
) -> None:
    """Read samples ``channel,t_ms,value`` from standard input, one a line; print a forecast for each new step as JSON.

    An empty value is a missing one. A line that cannot be read, or a channel with too little to forecast from, is
    answered with a JSON line that has an "error"; the stream goes on.

    With --config the stream runs what `install` and `update` put in place, takes over what they change while it
    runs, and judges an adapter on trial by its forecasts: confirmed after the health window, taken back on failure.
    While something else has to run than is installed, each forecast has a "fallback" that says why, standard error
    says it once, and what the machine kept from coming up is tried again.
    """
    from device_runtime.errors import DeviceRuntimeError
    from device_runtime.stream import Stream

    channels = tuple(_channel(name, interval_ms) for name in names)
    if (bundle is None) == (config_path is None) or (adapter is not None and bundle is None):
        raise click.UsageError("want either BUNDLE, perhaps with --adapter, or --config")
    stream = Stream(
        _forecaster(bundle, adapter, config_path, session),
        channels,
        context_length=context_length,
        min_observed=min_observed,
    )
    said = _say_problem(stream.forecaster, "")
    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        try:
            channel, t_ms, value = _sample(line, number)
            if not stream.push(channel, t_ms, value):
                continue
            forecast = stream.forecast(channel, prediction_length)
        except DeviceRuntimeError as error:
            said = _say_problem(stream.forecaster, said)
            click.echo(json.dumps({"line": number, "error": error.code, "message": str(error)}))
            continue
        said = _say_problem(stream.forecaster, said)
        click.echo(
            json.dumps(
                {
                    "channel": channel,
                    "t_ms": t_ms,
                    "quantile_levels": list(forecast.quantile_levels),
                    "quantiles": [[round(float(value), 3) for value in step] for step in forecast.quantiles],
                    "base": forecast.base[:16],
                    "adapter": forecast.adapter and forecast.adapter[:16],
                    "adapter_version": forecast.adapter_version,
                    **({"fallback": said} if said else {}),
                }
            )
        )
    click.echo(json.dumps({"counts": dict(stream.counts)}), err=True)


def _say_problem(forecaster: Any, said: str) -> str:
    """Say on standard error why something else runs than was installed, once for each reason; return the reason."""
    problem = str(getattr(forecaster, "problem", ""))
    if problem != said:
        click.echo(f"fallback: {problem}" if problem else "fallback: over, what is installed runs again", err=True)
    return problem


def _forecaster(bundle: Path | None, adapter: Path | None, config_path: Path | None, session: dict[str, Any]) -> Any:
    """Open a bundle with an adapter, or what a monitor has installed."""
    from device_runtime.cli.signed_only import check_signed
    from device_runtime.forecaster import Forecaster

    if bundle is not None:
        return Forecaster.open(bundle, check_signed(adapter), settings=settings(**session))
    from device_runtime.device_config import read_config
    from device_runtime.host import Host
    from device_runtime.install import Installer
    from device_runtime.report import reporter

    assert config_path is not None
    config = read_config(config_path)
    installer = Installer.of(config, settings=settings(**session))
    return Host(config, installer.open, changed=reporter(config, installer.base_digest.hex()))


def _channel(text: str, interval_ms: int) -> Any:
    """Read NAME or NAME:LOW:HIGH."""
    from device_runtime.stream import Channel

    name, *limits = text.split(":")
    try:
        low, high = (float(limit) for limit in limits) if limits else (float("-inf"), float("inf"))
    except ValueError:
        raise click.BadParameter(f"want NAME or NAME:LOW:HIGH, got {text!r}", param_hint="--channel") from None
    return Channel(name=name, interval_ms=interval_ms, low=low, high=high)


def _sample(line: str, number: int) -> tuple[str, int, float]:
    """Read one ``channel,t_ms,value``."""
    fields = line.strip().split(",")
    try:
        channel, t_ms, value = fields
        return channel.strip(), int(t_ms), float(value) if value.strip() else float("nan")
    except ValueError:
        raise InputError(f"line {number}: want channel,t_ms,value, got {line.strip()[:80]!r}") from None
