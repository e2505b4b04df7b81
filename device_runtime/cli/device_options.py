"""What the update verbs share: the device's settings, its lock and its slots."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.options import json_option
from device_runtime.cli.read_options import F

if TYPE_CHECKING:
    from device_runtime.update.settings import DeviceConfig
    from device_runtime.update.slots import Slots

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default="/etc/edge-tsfm/device.toml",
    envvar="EDGE_TSFM_DEVICE_CONFIG",
    help="This monitor's settings.",
)
health_option = click.option(
    "--health",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where etsa-service forecasts and learns: its --health-file.",
)
who_option = click.option("--who", default="operator", help="Who does this, for the log.")


def change_options(function: F) -> F:
    """Add the options of a manual change: the monitor, the reason, the person, and the output format."""
    reason = click.option("--reason", required=True, help="Why, for the log.")
    return config_option(reason(who_option(json_option(function))))


@contextlib.contextmanager
def device(config_path: Path, *, change: bool = True) -> Iterator[tuple[DeviceConfig, Slots]]:
    """Read the settings and open the state; to ``change`` it, wait for the lock, which reading does not need."""
    from device_runtime.update.lock import LOCK_WAIT, locked
    from device_runtime.update.settings import read_config
    from device_runtime.update.slots import slots_of

    config = read_config(config_path)
    with locked(config.state, wait=LOCK_WAIT) if change else contextlib.nullcontext():
        yield config, slots_of(config)


def say_what_runs(slots: Slots, *, as_json: bool, before: str = "") -> None:
    """Print what was done (``before``), and what forecasts after it."""
    runs = slots.record.runs
    if as_json:
        click.echo(json.dumps({"runs": runs and runs.adapter}))
    else:
        click.echo(f"{before}runs: {f'adapter {runs.adapter[:16]}' if runs else 'the base alone'}")


def report_change(config: DeviceConfig, slots: Slots) -> None:
    """Report a manual change; if the report cannot be sent, say so: the next poll sends one."""
    from device_runtime.update.report import base_of, report_on

    if problem := report_on(config, slots, base_of(config)):
        click.echo(f"report not sent: {problem}", err=True)


def say_value(value: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """Print a state for machines, or the ``lines`` for people and its problem on standard error."""
    if as_json:
        click.echo(json.dumps(value))
        return
    for line in lines:
        click.echo(line)
    if value["problem"]:
        click.echo(f"problem: {value['problem']}", err=True)
