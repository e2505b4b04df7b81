"""``edge-tsfm evaluate``: an adapter beside its frozen base and simple baselines, on patients it never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.options import accept_option
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.progress import Progress, quiet_option
from edge_tsfm.cli.reading import read_options
from edge_tsfm.cli.runs import open_run
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from edge_tsfm.data import Part
    from edge_tsfm.runs.evaluate import Evaluation
    from edge_tsfm.runs.run import Run

WAIT = 60.0  # seconds for another evaluation to write the same files


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", "all"]),
    default="test",
    show_default=True,
    help="Which patients (or, of a run split by time, which stretch); all is for data of another hospital.",
)
@click.option("--allow-trained-patients", is_flag=True, help="Score patients the run was trained on, and say so.")
@click.option("--target", help="Signal or column.  [default: what the run was trained on]")
@read_options
@min_observed_option("as the run")
@click.option("--block-length", type=click.IntRange(1), help="Split by time: steps drawn together.  [default: as run]")
@click.option("--subgroup", "subgroups", multiple=True, help="Also by this column, such as Gender; repeatable.")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Also the adapter with calibrated quantiles, fitted on the run's validation patients.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Also what the device's runtime forecasts with this bundle, in its precision; needs --adapter.",
)
@click.option(
    "--adapter",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The blob exported from the run for --bundle.",
)
@click.option(
    "--windows",
    "most",
    type=click.IntRange(1),
    help="Score at most so many windows, drawn by the seed.  [default: all]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of the bootstrap and of windows drawn and shown.",
)
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True, help="Draws of patients.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False), help="Write every figure as CSV.")
@click.option(
    "--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write one page with it all."
)
@click.option(
    "--plots", type=click.Path(path_type=Path, file_okay=False), help="Folder for forecasts.png, figures.png."
)
@accept_option
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: Path,
    data: Path | None,
    split: Part,
    allow_trained_patients: bool,
    block_length: int | None,
    csv_file: Path | None,
    html_file: Path | None,
    plots: Path | None,
    quiet: bool,
    as_json: bool,
    target: str | None,
    **given: Any,
) -> None:
    """Score a RUN's adapter on the test patients of DATA, left out: the data it was trained on.

    Beside it stand its frozen base, persistence, the window's mean, a linear trend and exponential smoothing, with
    intervals by bootstrap over patients. Says plainly when the adapter does not beat its base.
    """
    from edge_tsfm.data import DataOptions
    from edge_tsfm.report.text import report_csv, report_text
    from edge_tsfm.runs.evaluate import Options, evaluate_run, read_for

    trained = open_run(run)
    _check_options(trained, given["bundle"], given["adapter"], block_length)
    scored = {name: given.pop(name) for name in tuple(given) if name in Options.__dataclass_fields__}
    options = Options(part=split, allow_trained=allow_trained_patients, block_length=block_length, **scored)
    dataset = read_for(trained, data, DataOptions.of(given), target=target)
    work = Work()
    with Progress("forecast", work, quiet=quiet) as progress:
        found = evaluate_run(trained, dataset, options, work=work, tell=progress.update)
    written = {} if csv_file is None else {csv_file: report_csv(found.report).encode()}
    if plots is not None or html_file is not None:
        written |= _pages(found, plots, html_file, options.seed)
    _write_together(written)
    if as_json:
        click.echo(json.dumps({"verdict": found.verdict.to_dict(), **found.record}, indent=2))
        return
    notes = [f"note: {note}" for note in found.notes]
    click.echo("\n".join([found.title, *notes, report_text(found.report, found.verdict)]))


def _check_options(run: Run, bundle: Path | None, adapter: Path | None, block_length: int | None) -> None:
    """Refuse options that do not go together."""
    if (bundle is None) != (adapter is None):
        raise click.UsageError("--bundle and --adapter go together: the device's forecasts need both")
    if block_length is not None and run.split.by == "item":
        raise click.UsageError("--block-length is for a run split by time; by item, intervals draw whole items")


def _pages(found: Evaluation, plots: Path | None, html_file: Path | None, seed: int) -> dict[Path, bytes]:
    """Draw the pictures for the folder ``plots``, and the page that holds them."""
    from edge_tsfm.report.page import report_page
    from edge_tsfm.report.plots import forecast_plot, metric_plot

    title = f"{found.title}\n{found.verdict.label}"
    pictures = {
        "forecasts": forecast_plot(found.forecasts, found.windows, found.quantile_levels, seed=seed, title=title),
        "figures": metric_plot(found.report, title=title),
    }
    written = {} if plots is None else {plots / f"{name}.png": picture for name, picture in pictures.items()}
    if html_file is not None:
        shown = list(pictures.items())
        page = report_page(found.report, title=found.title, verdict=found.verdict, notes=found.notes, pictures=shown)
        written[html_file] = page.encode()
    return written


def _write_together(files: Mapping[Path, bytes]) -> None:
    """Write one evaluation's files, and no other's among them: another that writes there waits for its turn."""
    from contextlib import ExitStack

    from device_runtime.files import write_atomic
    from edge_tsfm.one_writer import only_writer

    with ExitStack() as stack:
        for folder in sorted({path.resolve().parent for path in files}):  # in one order: nobody waits for each other
            stack.enter_context(only_writer(folder, wait=WAIT))
        for path, data in files.items():
            write_atomic(path, data)
