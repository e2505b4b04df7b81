"""``edge-tsfm deploy halt``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import for_the_record, old_name, on_a_ring, open_repository, say


@click.command()
@on_a_ring
@for_the_record
def command(repository: Path, ring: str, keys: tuple[Path, ...], who: str, why: str, as_json: bool) -> None:
    """Stop a RING's roll-out: no further monitor installs it. Those that have it keep it; `revoke` removes it."""
    from edge_tsfm.deploy import rings

    opened = open_repository(repository, keys)
    with opened.locked():
        rings.halt(opened, ring, who=who, why=why)
    say(as_json, {"ring": ring, **old_name(ring), "halted": True}, f"{ring}: halted")
