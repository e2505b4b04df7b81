"""``edge-tsfm train --group-by``: the same options, a run folder for each group, and a line for each verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_runtime.cli.outcome import LEFT_OUT, leave_out
from edge_tsfm.cli.progress import Progress
from edge_tsfm.errors import GateRefusedError, TrainError
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from edge_tsfm.runs.groups import Outcome, TrainedGroups
    from edge_tsfm.training.config import TrainConfig


def train_and_say(
    config: TrainConfig,
    out: Path,
    column: str,
    *,
    ray: str | None,
    resume: bool,
    force: bool,
    log_to: Sequence[str],
    quiet: bool,
    as_json: bool,
) -> None:
    """Train all groups and print what became of each; exit with `LEFT_OUT` when some could not be trained.

    Raises `TrainError` when none could, and `GateRefusedError` when the gate accepted none of those that were.
    """
    from edge_tsfm.runs.groups import train_groups
    from edge_tsfm.runs.log_to import open_group_loggers
    from edge_tsfm.runs.record import GROUPS_FILE

    with Progress(f"train {config.method}", Work(), quiet=quiet) as progress:
        result = train_groups(
            config, out, column, resume=resume, force=force, hearing=open_group_loggers(log_to), work=progress.work,
            tell=progress.update, remark=progress.say, ray=ray,
        )  # fmt: skip
    click.echo(json.dumps(result.to_dict()) if as_json else _text(result))
    for name, error in result.failed.items():
        leave_out("edge-tsfm", name, error)
    if not result.runs:
        name, error = next(iter(result.failed.items()))
        raise TrainError(
            f"none of {len(result.outcomes)} groups could be trained; {name}: {error}",
            hint=f"{out / GROUPS_FILE} says why, for each; fewer, larger groups have more patients",
        )
    if not any(one.status in ("accepted", "forced") for one in result.outcomes):
        raise GateRefusedError(
            f"no adapter of {len(result.runs)} groups is accepted",
            hint=f"{out}/*/run.json says why; fewer, larger groups show smaller gains",
        )
    if result.failed:
        click.get_current_context().exit(LEFT_OUT)


def _text(result: TrainedGroups) -> str:
    """Return a line for each group, and how many were accepted."""
    width = max(len(one.name) for one in result.outcomes)
    lines = [f"{one.name:{width}}  {one.status:8}  {_why(one)}" for one in result.outcomes]
    accepted = sum(one.status == "accepted" for one in result.outcomes)
    return "\n".join([*lines, f"{result.out}: {accepted} of {len(result.outcomes)} groups by {result.column} accepted"])


def _why(one: Outcome) -> str:
    """Say of a run how its validation went and what the gate found; of none why."""
    if one.run is None:
        return str(one.error)
    training = one.run.record["training"]
    return (
        f"{training['metric']} {training['base']:.5f} → {training['best']:.5f} at step {training['best_step']}; "
        f"{one.run.gate['reason']}"
    )
