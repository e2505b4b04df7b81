"""``edge-tsfm-device adapt promote``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from device_runtime.cli.device_options import change_options, device, health_option, report_change


@click.command()
@change_options
@health_option
def command(config_path: Path, reason: str, who: str, as_json: bool, health: Path | None) -> None:
    """Promote a candidate that has passed: for settings with promote = "hand", where the device does not do it itself.

    The conditions are the same as for the device: mode active in settings and envelope, and the evidence. Where
    etsa-service learns (--health), it promotes after the next hand-over, within a day; then the log names you.
    """
    if health is not None:
        _ask(config_path, health, reason, who=who, as_json=as_json)
        return
    from device_runtime.monitor import workshop_of
    from device_runtime.update.adapt_hand import prepare

    with device(config_path, change=False) as (config, slots):
        prepared = prepare(config, slots, workshop_of(config))
    with device(config_path) as (config, slots):
        prepared.promote(slots, reason, who=who)
    entry = prepared.entry
    if as_json:
        click.echo(json.dumps({"adapter": entry.adapter, "generation": entry.sequence, "learnt": prepared.facts}))
    else:
        click.echo(f"promoted: own adapter {entry.adapter[:16]}, generation {entry.sequence}")
    report_change(config, slots)


def _ask(config_path: Path, health: Path, reason: str, *, who: str, as_json: bool) -> None:
    """Leave word for the hand-over."""
    from device_runtime.errors import StateError
    from device_runtime.update.adapt_asked import ask
    from device_runtime.update.service_health import read_learning

    said = read_learning(health)
    if said is None:
        raise StateError(f"no etsa-service that learns and runs now has written {health}")
    with device(config_path) as (config, slots):
        ask(config, slots, said, reason, who=who)
    click.echo(json.dumps({"asked": reason}) if as_json else "asked: the service promotes after the next hand-over")
