"""``edge-tsfm export merged``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tsfm.cli.paths import Existing
from edge_tsfm.cli.runs import open_run


@click.command("merged")
@click.argument("run", type=Existing(file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export_merged_command(run: Path, out: Path, as_json: bool) -> None:
    """Write a RUN's adapted model as a plain Hugging Face folder: the base with the adaptation merged.

    It opens with BaseChronosPipeline.from_pretrained, and as --base: to adapt further, or to study as another base.
    """
    from edge_tsfm.runs.merged import save_merged

    record = save_merged(open_run(run), out)
    if as_json:
        click.echo(json.dumps(record))
        return
    click.echo(f"{out}: {record['base']['name']} with {record['method']} for {record['target']} merged")
    if not record["gate"]["accepted"]:
        click.echo(f"note: the gate did not accept this run: {record['gate']['reason']}")
