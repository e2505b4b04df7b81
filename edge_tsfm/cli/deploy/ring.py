"""``edge-tsfm deploy ring``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import json_option, old_name, on_a_ring, open_repository, say


@click.command()
@on_a_ring
@click.option("--signal", required=True, help="Signal that its monitors forecast, such as MAP.")
@click.option("--interval", default="", help="Time between steps, such as 1h.  [default: not stated]")
@click.option("--unit", default="", help="UCUM unit, such as mm[Hg].  [default: the signal's own]")
@json_option
def command(
    repository: Path, ring: str, keys: tuple[Path, ...], signal: str, interval: str, unit: str, as_json: bool
) -> None:
    """Set what the monitors of a RING forecast: no adapter for anything else is approved for it."""
    from edge_tsfm.deploy.ledger import describe

    opened = open_repository(repository, keys)
    with opened.locked():
        made = describe(opened, ring, signal=signal, interval=interval, unit=unit)
    say(
        as_json,
        {"ring": made.name, **old_name(made.name), "signal": made.signal, "unit": made.unit, "interval": made.interval},
        f"{made.name}: {made.signal}{f' in {made.unit}' if made.unit else ''} every {made.interval or 'step'}",
    )
