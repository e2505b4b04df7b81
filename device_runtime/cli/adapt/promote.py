"""``edge-tsfm-device adapt promote``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from device_runtime.cli.device_options import change_options, device, report_change


@click.command()
@change_options
def command(config_path: Path, reason: str, who: str, as_json: bool) -> None:
    """Promote a candidate that has passed: for settings with promote = "hand", where the device does not do it itself.

    The conditions are the same as for the device: mode active in settings and envelope, and the evidence.
    """
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
