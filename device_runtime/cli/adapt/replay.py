"""``edge-tsfm-device adapt replay``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device
from device_runtime.cli.options import json_option


@click.command()
@click.argument("feed", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@json_option
def command(feed: Path, config_path: Path, as_json: bool) -> None:
    """Learn again from a recorded FEED of this monitor, from the beginning, and compare with the recorded steps.

    FEED has the lines that `stream` read since learning began. Nothing on the monitor changes. Exit status 1 if a
    step differs: other samples, other rules, another processor, or another release.
    """
    from device_runtime.monitor import recorded_stays, workshop_of
    from device_runtime.update.adapt_replay import replay

    with device(config_path, change=False) as (config, slots):
        found = replay(config, slots, workshop_of(config), recorded_stays(config, feed))
    if as_json:
        click.echo(json.dumps(vars(found)))
    else:
        click.echo(found.said)
    sys.exit(0 if found.first_difference is None and found.compared else 1)
