"""``edge-tsfm deploy revoke``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import for_the_record, old_name, on_a_ring, open_repository, say


@click.command()
@on_a_ring
@click.argument("adapter")
@click.option("--older", is_flag=True, help="Revoke also everything approved before it.")
@for_the_record
def command(
    repository: Path, ring: str, adapter: str, keys: tuple[Path, ...], older: bool, who: str, why: str, as_json: bool
) -> None:
    """Revoke an ADAPTER (first digits of its name) on every monitor of a RING, permanently.

    At its next poll a monitor that has it returns to the previous adapter that is not revoked, or to the base alone.
    Needs the quality keys: it is quality's decision, and a stolen online key cannot undo it.
    """
    from edge_tsfm.deploy import rings

    opened = open_repository(repository, keys)
    with opened.locked():
        name = rings.take_back(opened, ring, adapter, older=older, who=who, why=why)
    say(
        as_json,
        {"ring": ring, **old_name(ring), "revoked": name, "older": older},
        f"{ring}: adapter {name[:16]} is revoked",
    )
