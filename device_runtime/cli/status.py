"""``edge-tsfm-device status``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device
from device_runtime.cli.options import json_option


@click.command()
@config_option
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """Say which base and adapter run on this monitor, and what waits."""
    from device_runtime.bundle import Bundle
    from device_runtime.report import report_of, to_value

    with device(config_path, change=False) as (config, slots):
        base = Bundle.open(config.bundle).digest.hex()
        report = report_of(slots, channel=config.channel, base=base)
        record = slots.record
    if as_json:
        click.echo(json.dumps(to_value(report)))
        return
    click.echo(f"device    {report.device}, channel {report.channel}")
    click.echo(f"state     {report.state}{f', {record.tries} tries left' if record.tries else ''}")
    click.echo(f"base      {report.base[:16]}")
    for name, entry in (
        ("runs", record.runs),
        ("waits", record.candidate if record.candidate != record.runs else None),
        ("previous", record.current if record.candidate == record.runs and record.candidate else record.previous),
    ):
        if entry:
            click.echo(f"{name:<10}adapter {entry.adapter[:16]}, version {entry.version}, sequence {entry.sequence}")
        elif name == "runs":
            click.echo("runs      the base alone")
    if report.reason:
        click.echo(f"because   {report.reason}")
