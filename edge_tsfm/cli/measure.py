"""``edge-tsfm measure``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tsfm.cli.paths import Existing

if TYPE_CHECKING:
    from edge_tsfm.data.split import SplitName


@click.command()
@click.argument("base", type=Existing(file_okay=False))
@click.argument("data", type=Existing(file_okay=False))
@click.option("--split", type=click.Choice(["validation", "test"]), default="test")
@click.option("--limit", type=click.IntRange(min=1), help="Windows per signal.  [default: all]")
@click.option("--other-limit", type=click.IntRange(min=1), default=200, help="Windows per series of other domains.")
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    default=100,
    help="Samples per forecast (Chronos-T5). Of n, the 80 % interval of a perfect model covers 0.8 (n - 1) / (n + 1).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    base: Path, data: Path, split: SplitName, limit: int | None, other_limit: int, samples: int, as_json: bool
) -> None:
    """Measure BASE zero-shot on DATA, beside simple baselines: the figures of its model card.

    DATA is the folder of public data that docs/guides/pretraining.md describes.
    """
    from edge_tsfm.research.pretraining.measure import measure

    rows = measure(str(base), data, split, limit=limit, other_limit=other_limit, samples=samples)
    if as_json:
        click.echo(json.dumps([{"name": r.name, **{k: vars(v) for k, v in r.scores.items()}} for r in rows], indent=2))
        return
    click.echo("| data | windows | forecast | MSE | WQL | 80 % interval covers |\n|---|---|---|---|---|---|")
    for row in rows:
        click.echo("\n".join(row.lines()))
    for row in rows:
        if row.gain is not None:
            click.echo(f"{row.name}: removes {row.gain[0]:.1%} to {row.gain[1]:.1%} of persistence's squared error")
