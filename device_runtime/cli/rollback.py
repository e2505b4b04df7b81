"""``edge-tsfm-device rollback``."""

from __future__ import annotations

from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device, report_change, who_option


@click.command()
@config_option
@click.option("--reason", required=True, help="Why, for the log.")
@click.option("--to-base", is_flag=True, help="Roll back to the base alone.")
@who_option
def command(config_path: Path, reason: str, to_base: bool, who: str) -> None:
    """Roll back: from a trial or a confirmed adapter to the previous adapter, and from that one to the base.

    The sequence that was rolled back is not tried again on this monitor.
    """
    with device(config_path) as (config, slots):
        slots.fall_back(reason, who=who)
        while to_base and slots.record.current is not None:
            slots.fall_back(reason, who=who)
        runs = slots.record.runs
    click.echo(f"{slots.record.state.value}: {f'adapter {runs.adapter[:16]}' if runs else 'the base alone'}")
    report_change(config, slots)
