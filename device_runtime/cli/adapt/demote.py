"""``edge-tsfm-device adapt demote``."""

from __future__ import annotations

from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device, report_change, say_what_runs, who_option
from device_runtime.cli.options import json_option


@click.command()
@config_option
@click.option("--reason", required=True, help="Why, for the log.")
@who_option
@json_option
def command(config_path: Path, reason: str, who: str, as_json: bool) -> None:
    """Return to the installed adapter, or the base, at the next forecast.

    Learning starts afresh in shadow; to prevent another promotion, set mode = "shadow" or "off".
    """
    with device(config_path) as (config, slots):
        slots.demote(reason, who=who)
    say_what_runs(slots, as_json=as_json)
    report_change(config, slots)
