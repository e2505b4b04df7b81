"""``edge-tsfm-device adapt log``."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device
from device_runtime.cli.options import json_option


@click.command()
@config_option
@click.option("--steps", is_flag=True, help="Print the last steps of learning instead of decisions.")
@json_option
def command(config_path: Path, steps: bool, as_json: bool) -> None:
    """Print every promotion, demotion, envelope and reset in this monitor's log, one per line, with both scores.

    The log's chain is checked (`audit verify` checks an exported one).
    """
    from device_runtime.update.adapt_report import decisions, steps_of

    with device(config_path, change=False) as (config, slots):
        entries = steps_of(config) if steps else decisions(slots)
    for entry in entries:
        if as_json:
            click.echo(json.dumps(entry))
        elif steps:
            losses = ", ".join("not finite" if loss is None else f"{loss:.6g}" for loss in entry["losses"])
            click.echo(f"{entry['number']:>6} stay {entry['stay']} {entry['what']} ({losses}) {entry['digest']}")
        else:
            at = dt.datetime.fromtimestamp(float(entry["at"]), dt.UTC).isoformat(timespec="seconds")
            click.echo(f"{at} {entry['event']:<9} {entry['who']}: {entry['reason']}{_said(entry.get('learnt'))}")


def _said(learnt: object) -> str:
    """Format both scores of a decision."""
    if not isinstance(learnt, dict) or not isinstance(learnt.get("loss"), dict):
        return ""
    return " (losses: " + ", ".join(f"{name} {value:g}" for name, value in learnt["loss"].items()) + ")"
