"""``edge-tsfm-device confirm``."""

from __future__ import annotations

from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device, report_change, who_option


@click.command()
@config_option
@click.option("--reason", required=True, help="The reason, for the log.")
@who_option
def command(config_path: Path, reason: str, who: str) -> None:
    """Confirm the adapter on trial manually, without waiting for the health window."""
    with device(config_path) as (config, slots):
        slots.confirm(reason, who=who)
        entry = slots.record.current
    assert entry is not None
    click.echo(f"confirmed: adapter {entry.adapter[:16]}, sequence {entry.sequence}")
    report_change(config, slots)
