"""``edge-tsfm deploy downgrade``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import (
    json_option,
    keys_option,
    open_repository,
    plan_option,
    read_stages,
    repository_argument,
    ring_argument,
    say,
    who_option,
    why_option,
)


@click.command()
@repository_argument
@ring_argument
@click.argument("adapter")
@keys_option
@plan_option
@who_option
@why_option
@json_option
def command(
    repository: Path,
    ring: str,
    adapter: str,
    keys: tuple[Path, ...],
    plan: Path | None,
    who: str,
    why: str,
    as_json: bool,
) -> None:
    """Offer an earlier ADAPTER again: a new sequence for the old bytes, so that monitors accept it.

    Stage by stage like any other. What was revoked stays revoked.
    """
    from edge_tsfm.deploy import rings
    from edge_tsfm.deploy.ledger import read_ring
    from edge_tsfm.deploy.status import named

    opened = open_repository(repository, keys)
    with opened.locked():
        state = rings.downgrade(opened, ring, adapter, read_stages(plan), who=who, why=why)
        value = named(read_ring(opened, ring), state)
    say(
        as_json,
        value,
        f"{ring}: adapter {value['adapter'][:16]} is offered again as sequence {value['sequence']}",
    )
