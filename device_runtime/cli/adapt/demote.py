"""``edge-tsfm-device adapt demote``."""

from __future__ import annotations

from pathlib import Path

import click

from device_runtime.cli.device_options import change_options, device, report_change, say_what_runs


@click.command()
@change_options
def command(config_path: Path, reason: str, who: str, as_json: bool) -> None:
    """Return to the installed adapter, or the base, at the next forecast.

    Learning starts afresh in shadow; to prevent another promotion, set mode = "shadow" or "off".
    """
    with device(config_path) as (config, slots):
        slots.demote(reason, who=who)
    say_what_runs(slots, as_json=as_json)
    report_change(config, slots)
