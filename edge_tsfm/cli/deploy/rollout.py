"""``edge-tsfm deploy rollout``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_tsfm.cli.deploy.options import (
    FOLDER,
    json_option,
    on_a_ring,
    open_repository,
    plan_option,
    read_stages,
    who_option,
)


@click.command()
@on_a_ring
@click.option(
    "--adapter", help="Start: offer this approved adapter (first digits of its name, as in status and reports)."
)
@plan_option
@click.option("--reports", type=FOLDER, help="Step: folder of the monitors' reports.")
@click.option("--approve", is_flag=True, help="With --reports: a person approves the next stage.")
@click.option("--pause", "paused", flag_value=True, type=bool, default=None, help="Pause at this stage.")
@click.option("--resume", "paused", flag_value=False, type=bool, help="Continue after a pause.")
@who_option
@json_option
def command(
    repository: Path,
    ring: str,
    keys: tuple[Path, ...],
    adapter: str | None,
    plan: Path | None,
    reports: Path | None,
    approve: bool,
    paused: bool | None,
    who: str,
    as_json: bool,
) -> None:
    """Offer an approved adapter to a RING stage by stage: start with --adapter, continue with --reports.

    A step reads the reports and advances, waits, asks for approval or halts; run it from a timer. Every decision is in
    REPOSITORY/decisions.
    """
    from edge_tsfm.deploy import rings

    if sum(option is not None for option in (adapter, reports, paused)) != 1:
        raise click.UsageError("want one of --adapter, --reports, --pause, --resume")
    opened = open_repository(repository, keys)
    with opened.locked():
        if adapter is not None:
            state = rings.start(opened, ring, adapter, read_stages(plan), who=who)
            value: dict[str, Any] = {"action": "start", "why": f"stage {state['stages'][0]['permille']} of 1000"}
        elif reports is not None:
            value = asdict(rings.step(opened, ring, reports, who=who, approve=approve))
        else:
            rings.pause(opened, ring, paused=bool(paused), who=who, why="by hand")
            value = {"action": "pause" if paused else "resume", "why": "by hand"}
    click.echo(json.dumps(value) if as_json else f"{value['action']}: {value['why']}")
