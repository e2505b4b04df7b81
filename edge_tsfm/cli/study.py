"""``edge-tsfm study``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edge_tsfm.errors import TrainError


@click.command()
@click.argument("study", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the study.")
@click.option("--jobs", type=click.IntRange(1), help="Cells at a time.  [default: one for each GPU, else each core]")
@click.option("--ray", help="Instead over the Ray cluster at this address; auto, or local to start one here.")
@click.option("--dry-run", is_flag=True, help="Only list the cells, and which are done.")
@click.option("--tabulate", is_flag=True, help="Only make the table of what is finished.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    study: Path,
    data: str | None,
    out: Path,
    jobs: int | None,
    ray: str | None,
    dry_run: bool,
    tabulate: bool,
    as_json: bool,
) -> None:
    """Compare methods on DATA as STUDY.toml says, beside yardsticks, and write one table.

    Every cell is a run folder under OUT. Started again, the same command goes on where it stopped.
    """
    from edge_tsfm.study.cells import Cell
    from edge_tsfm.study.config import load_study
    from edge_tsfm.study.layout import markdown
    from edge_tsfm.study.pool import default_jobs
    from edge_tsfm.study.scores import SCORES_FILE
    from edge_tsfm.study.study import RESULTS_FOLDER, plan, run_study
    from edge_tsfm.training.run import RUN_FILE

    asked = load_study(study, str(Path(data).absolute()) if data else None)
    trials, cells = plan(asked)
    if dry_run:
        listed = [
            {"folder": one.folder, "done": (out / one.folder / (SCORES_FILE if one.scored else RUN_FILE)).exists()}
            for one in (*trials, *cells)
        ]
        if as_json:
            click.echo(json.dumps(listed))
            return
        for entry in listed:
            click.echo(f"{'done  ' if entry['done'] else '      '}{entry['folder']}")
        click.echo(
            f"{len(trials)} runs to choose learning rates, {len(cells)} for the table; "
            f"{sum(bool(entry['done']) for entry in listed)} done"
        )
        return
    with click.progressbar(
        length=len(trials) + len(cells),
        label="study",
        file=sys.stderr,
        hidden=as_json or tabulate or not sys.stderr.isatty(),
        item_show_func=lambda text: text,
    ) as bar:

        def report(cell: Cell) -> None:
            bar.update(1, cell.folder)

        result = run_study(asked, out, jobs=jobs or default_jobs(), ray=ray, only_tabulate=tabulate, report=report)
    if as_json:
        click.echo(json.dumps(result.to_dict()))
    else:
        click.echo(markdown(result.groups))
        for note in result.notes:
            click.echo(f"note: {note}")
        click.echo(f"{out / RESULTS_FOLDER}: table.md, table.csv, study.json, study.html, pareto.png")
    if result.failed:
        folder, error = next(iter(result.failed.items()))
        raise TrainError(f"{len(result.failed)} cells failed; {folder}: {error}", hint="the others are in the table")
