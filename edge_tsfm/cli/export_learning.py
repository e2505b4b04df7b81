"""``edge-tsfm export learning``, and what ``export base --learnable`` says of the same graphs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.format.learning import BIASES, FOURIERFT, LEARNABLE, OUTPUT_BIASES, STATE
from edge_tsfm.cli.progress import export_bar

if TYPE_CHECKING:
    from export import LearningExport

NO_STATE = "without the state graph, by which C learns: only float32 bundles have one"


class LearnableType(click.ParamType[str]):
    """What a monitor may learn: biases, or FourierFT's coefficients by a preset."""

    name = "learnable"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Show the words as a choice does."""
        return f"[{'|'.join(BIASES)}|{FOURIERFT}/PRESET]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Accept the words and the method with a preset, which the command looks up."""
        if value not in LEARNABLE and not value.startswith(f"{FOURIERFT}/"):
            self.fail(f"{value!r}: want {', '.join(BIASES)} or {FOURIERFT}/PRESET", param, ctx)
        return value


learnable_type = LearnableType()


@click.command("learning")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--base", "name", default="edge-bolt-micro", help="Base that the bundle was exported from.")
@click.option("--learnable", type=learnable_type, default="biases", help="What a monitor may learn.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export_learning_command(bundle: Path, name: str, learnable: str, as_json: bool) -> None:
    """Add the graphs with which a monitor learns to an existing BUNDLE; it stays the same base.

    The training loss, its gradient and shifted forecasts are first compared with torch; nothing is written if they
    differ. Chronos-Bolt only. fourierft/PRESET moves weights by coefficients at the entries that train draws.
    """
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.models import load_base
    from edge_tsfm.runs.learning import add_learning

    opened = Bundle.open(bundle)
    with export_bar("export learning", hidden=as_json) as progress:
        result = add_learning(load_base(name), opened, learnable, progress)
    if as_json:
        click.echo(json.dumps(learning_record(result)))
    else:
        say_learning(result)


def learning_record(result: LearningExport) -> dict[str, Any]:
    """Compose the JSON."""
    return {**asdict(result), "path": str(result.path)}


def say_learning(result: LearningExport) -> None:
    """Report in words."""
    parity, what = result.parity, "weights" if result.learnable == FOURIERFT else "biases"
    click.echo(
        f"{result.path}: learning graphs for {len(result.names)} {what}, {result.parameters:,} parameters, "
        f"{result.bytes / 1e6:.1f} MB, learning digest {result.digest[:16]}…"
    )
    click.echo(
        f"  against torch in float64: loss {parity.loss:.1e} of itself, gradient {parity.gradient:.1e} of its size "
        f"(torch in float32 {parity.gradient_float32:.1e}), shifted forecasts {parity.shifted:.1e}"
    )
    if result.learnable == OUTPUT_BIASES:
        has = "with the state graph, by which C learns too" if STATE in result.graphs else NO_STATE
        click.echo(f"  {has}")
