"""``edge-tsfm export static``, and what ``export base --static`` says of the same graph."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_tsfm.cli.progress import export_bar

if TYPE_CHECKING:
    from export import StaticExport


class Shape(click.ParamType[tuple[int, int]]):
    """Steps of context, and contexts in a run: 512x1."""

    name = "STEPSxBATCH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return both numbers. Raises `click.BadParameter`, which names the option."""
        if isinstance(value, tuple):
            return value
        steps, _, batch = str(value).partition("x")
        if not (steps.isdecimal() and batch.isdecimal() and int(steps) and int(batch)):
            self.fail(f"want STEPSxBATCH, such as 512x1, got {value!r}.", param, ctx)
        return int(steps), int(batch)


@click.command("static")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--base", "name", default="edge-bolt-micro", help="Base that the bundle was exported from.")
@click.option("--shape", type=Shape(), required=True, help="Steps of context, and contexts in one run, as 512x1.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export_static_command(bundle: Path, name: str, shape: tuple[int, int], as_json: bool) -> None:
    """Add a graph of fixed shapes to an existing BUNDLE, for accelerators that take no other; it stays the same base.

    On the processor it must forecast as the bundle's own graph, also with every tunable tensor moved; nothing is
    written if it does not. Shorter contexts are padded. Chronos-Bolt in float32 only.
    """
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.models import load_base
    from export.static import export_static

    opened = Bundle.open(bundle)
    steps, batch = shape
    with export_bar("export static", hidden=as_json) as progress:
        result = export_static(
            load_base(name).model,
            opened,
            context_length=steps,
            batch=batch,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(static_record(result)))
    else:
        say_static(result)


def static_record(result: StaticExport) -> dict[str, Any]:
    """Compose the JSON."""
    return {**asdict(result), "path": str(result.path)}


def say_static(result: StaticExport) -> None:
    """Report in words."""
    click.echo(
        f"{result.path}: static graph {result.shape}, {result.nodes} nodes, "
        f"{result.bytes / 1e6:.1f} MB\n"
        f"  against the bundle's own graph: forecasts within {result.largest:.1e} of the context's deviation, "
        f"{result.tensors} tensors proven merged"
    )
