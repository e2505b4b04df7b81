"""``edge-tsfm-device install``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device, report_change, who_option
from device_runtime.cli.options import json_option


@click.command()
@click.argument("adapter", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@click.option("--activate", is_flag=True, help="Begin the trial at once.")
@who_option
@json_option
def command(adapter: Path, config_path: Path, activate: bool, who: str, as_json: bool) -> None:
    """Install a signed ADAPTER in a slot: check signatures, base and version, run its known-answer test, stage it.

    The running adapter continues until the trial begins.
    """
    from device_runtime.files import about, read_bounded
    from device_runtime.monitor import installer_of
    from device_runtime.update.slots import MAX_FILE_SIZE

    data = read_bounded(adapter, MAX_FILE_SIZE)
    # Without a lock for changes: a failing trial can be taken back meanwhile.
    with device(config_path, change=False) as (config, slots), about(adapter):
        entry = installer_of(config).prove(slots, data, config.ring)
    with device(config_path) as (config, slots):
        slots.stage(data, entry, config.ring, who=who)
        if activate:
            slots.activate(who=who)
        state = slots.record.state.value
    if as_json:
        facts = {("signed_file" if key == "file" else key): value for key, value in asdict(entry).items()}
        click.echo(json.dumps({"state": state, **facts}))
    else:
        click.echo(f"{state}: adapter {entry.adapter[:16]}, version {entry.version}, sequence {entry.sequence}")
    report_change(config, slots)
