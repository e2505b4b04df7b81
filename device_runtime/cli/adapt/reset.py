"""``edge-tsfm-device adapt reset``."""

from __future__ import annotations

from pathlib import Path

import click

from device_runtime.cli.device_options import change_options, device, report_change, say_what_runs


@click.command()
@change_options
def command(config_path: Path, reason: str, who: str, as_json: bool) -> None:
    """Delete everything that was learnt, kept windows too, on the disk and in the process that hosts the forecasts.

    A promoted adapter is demoted first. The hosting process deletes its copy at its next forecast.
    """
    with device(config_path) as (config, slots):
        slots.forget_learnt(reason, who=who)
    say_what_runs(slots, as_json=as_json, before="forgotten; ")
    report_change(config, slots)
