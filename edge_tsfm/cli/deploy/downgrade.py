"""``edge-tsfm deploy downgrade``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import for_the_record, on_a_ring, open_repository, plan_option, read_stages, say


@click.command()
@on_a_ring
@click.argument("adapter")
@plan_option
@for_the_record
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

    It is rolled out in stages like any other. What was revoked stays revoked.
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
