"""``edge-tsfm study``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tsfm.cli.paths import Existing
from edge_tsfm.cli.progress import Progress, log_to_option, quiet_option
from edge_tsfm.errors import TrainError
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from edge_tsfm.research.study.cells import Cell
    from edge_tsfm.research.study.study import Result


@click.command()
@click.argument("study", type=Existing(dir_okay=False))
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the study.")
@click.option(
    "--jobs", type=click.IntRange(1), help="Cells run in parallel.  [default: one for each GPU, else for each core]"
)
@click.option("--ray", help="Use the Ray cluster at this address instead; auto, or local to start one here.")
@click.option("--dry-run", is_flag=True, help="Only list the cells, and which are done.")
@click.option("--tabulate", is_flag=True, help="Only make the table of what is finished.")
@log_to_option
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    study: Path,
    data: str | None,
    out: Path,
    jobs: int | None,
    ray: str | None,
    dry_run: bool,
    tabulate: bool,
    log_to: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare methods on DATA as STUDY.toml says, beside baselines, and write one table.

    Every cell is a run folder under OUT. If it is started again, the same command continues where it stopped. With
    --log-to, each adapter's run is logged once it has ended.
    """
    from edge_tsfm.research.study.config import load_study
    from edge_tsfm.research.study.logged import log_cell
    from edge_tsfm.research.study.pool import default_jobs
    from edge_tsfm.research.study.study import plan, run_study
    from edge_tsfm.runs.log_to import check_loggers

    asked = load_study(study, str(Path(data).absolute()) if data else None)
    check_loggers(log_to)
    trials, cells = plan(asked)
    if dry_run:
        _list(trials, cells, out, as_json=as_json)
        return
    work, whole = Work(), [*trials, *cells]
    done = {cell.folder for cell in whole if _there(cell, out)}
    work.plan(cells=sum(cell.effort for cell in whole if cell.folder not in done))
    finished, since = len(done), time.monotonic()
    with Progress("study", work, quiet=quiet or tabulate) as progress:

        def report(cell: Cell) -> None:
            nonlocal finished, since
            log_cell(cell, out, log_to)
            if cell.folder in done:  # before this command: says nothing of the pace
                return
            # The time between two that end, several at a time or not, is what one of the rest will take.
            now = time.monotonic()
            work.add("cells", now - since, cell.effort)
            finished, since = finished + 1, now
            progress.update(f"{finished} of {len(whole)} cells, {cell.folder} done", mark=True)

        result = run_study(asked, out, jobs=jobs or default_jobs(), ray=ray, only_tabulate=tabulate, report=report)
    _say(result, out, as_json=as_json)
    if result.failed:
        folder, error = next(iter(result.failed.items()))
        raise TrainError(f"{len(result.failed)} cells failed; {folder}: {error}", hint="the others are in the table")


def _there(cell: Cell, out: Path) -> bool:
    """Return whether a cell is finished."""
    from edge_tsfm.research.study.scores import SCORES_FILE
    from edge_tsfm.runs.record import RUN_FILE

    return (out / cell.folder / (SCORES_FILE if cell.scored else RUN_FILE)).exists()


def _list(trials: Sequence[Cell], cells: Sequence[Cell], out: Path, *, as_json: bool) -> None:
    """Print every cell of a study, and which are done."""
    listed = [{"folder": one.folder, "done": _there(one, out)} for one in (*trials, *cells)]
    if as_json:
        click.echo(json.dumps(listed))
        return
    for entry in listed:
        click.echo(f"{'done  ' if entry['done'] else '      '}{entry['folder']}")
    click.echo(
        f"{len(trials)} runs to choose learning rates, {len(cells)} for the table; "
        f"{sum(bool(entry['done']) for entry in listed)} done"
    )


def _say(result: Result, out: Path, *, as_json: bool) -> None:
    """Print the table, and the path of its file."""
    from edge_tsfm.research.study.render import markdown
    from edge_tsfm.research.study.study import RESULTS_FOLDER

    if as_json:
        click.echo(json.dumps(result.to_dict()))
        return
    click.echo(markdown(result.groups))
    for note in result.notes:
        click.echo(f"note: {note}")
    click.echo(f"{out / RESULTS_FOLDER}: table.md, table.csv, study.json, study.html, pareto.png")
