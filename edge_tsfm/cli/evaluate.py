"""``edge-tsfm evaluate``: an adapter beside its frozen base and simple baselines, on patients it never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.asked import taken
from device_runtime.cli.options import accept_option, place_options, settings
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.paths import Existing
from edge_tsfm.cli.progress import Progress, quiet_option
from edge_tsfm.cli.reading import read_options, split_option
from edge_tsfm.cli.runs import open_run
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from edge_tsfm.data import Part
    from edge_tsfm.runs.evaluate import Evaluation
    from edge_tsfm.runs.run import Run

WAIT = 60.0  # seconds for another evaluation to write the same files


@click.command()
@click.argument("run", type=Existing(file_okay=False))
@click.argument("data", required=False, type=click.Path(path_type=Path))
@split_option(
    "test", whose="Which patients to score (or, with a split by time, which part); all is for data of another hospital."
)
@click.option(
    "--allow-trained-patients", is_flag=True, help="Allow patients that the run was trained on; the report says so."
)
@click.option("--target", help="Signal or column.  [default: what the run was trained on]")
@read_options
@min_observed_option("as the run")
@click.option(
    "--block-length",
    type=click.IntRange(1),
    help="With a split by time: length of the bootstrap's blocks.  [default: the run's]",
)
@click.option("--subgroup", "subgroups", multiple=True, help="Report also by this column, such as Gender; repeatable.")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Score also the adapter with quantiles calibrated on the run's validation patients.",
)
@click.option(
    "--bundle",
    type=Existing(file_okay=False),
    help="Score also the device runtime's forecasts with this bundle, in its precision; needs --adapter.",
)
@click.option(
    "--adapter",
    type=Existing(dir_okay=False),
    help="Blob exported from the run for --bundle.",
)
@click.option(
    "--windows",
    "most",
    type=click.IntRange(1),
    help="Most windows to score, drawn by the seed.  [default: all]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the bootstrap and of the windows drawn and plotted.",
)
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True, help="Draws of the bootstrap.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False), help="Write every figure as CSV.")
@click.option(
    "--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything as one HTML page."
)
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Folder for its pictures as PNG.")
@accept_option
@place_options
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
    """Score a RUN's adapter on the test patients of DATA, by default the data it was trained on.

    Compares it with its frozen base, persistence, the window's mean, a linear trend and exponential smoothing, with
    intervals by bootstrap over patients. Says so if the adapter does not beat its base.
    """
    from device_runtime.cli.formulas import warn_of_formulas
    from device_runtime.forecast.session import SessionSettings
    from edge_tsfm.data import DataOptions
    from edge_tsfm.report.text import report_csv, report_text
    from edge_tsfm.runs.evaluate import Options, evaluate_run, read_for

    trained = open_run(run)
    _check_options(trained, given["bundle"], given["adapter"], block_length)
    session = settings(**taken(SessionSettings, given))
    if session != SessionSettings() and given["bundle"] is None:
        raise click.UsageError("--provider is for --bundle: the other forecasts are torch's")
    scored = {**taken(Options, given), "session": session}
    options = Options(part=split, allow_trained=allow_trained_patients, block_length=block_length, **scored)
    dataset = read_for(trained, data, DataOptions.of(given), target=target)
    work = Work()
    with Progress("forecast", work, quiet=quiet) as progress:
        found = evaluate_run(trained, dataset, options, work=work, tell=progress.update)
    written = {} if csv_file is None else {csv_file: report_csv(found.report).encode()}
    if csv_file is not None:
        groups = found.report.subgroups
        warn_of_formulas("edge-tsfm", [*groups, *(label for group in groups.values() for label in group)])
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
    from edge_tsfm.report.evaluation import report_page
    from edge_tsfm.report.pictures import Shown, plot_files

    shown = Shown(
        scale=found.scale,
        windows=found.windows,
        forecasts=found.forecasts,
        quantile_levels=found.quantile_levels,
        seed=seed,
    )
    written: dict[Path, bytes] = {}
    if plots is not None:
        files = plot_files(found.report, shown, f"{found.title}\n{found.verdict.label}")
        written |= {plots / f"{name}.png": picture for name, picture in files.items()}
    if html_file is not None:
        page = report_page(
            found.report,
            title=found.title,
            scale=found.scale,
            verdict=found.verdict,
            notes=found.notes,
            shown=shown,
        )
        written[html_file] = page.encode()
    return written


def _write_together(files: Mapping[Path, bytes]) -> None:
    """Write one evaluation's files, and no other's among them: another that writes there waits for its turn."""
    from contextlib import ExitStack

    from device_runtime.files import write_atomic
    from edge_tsfm.one_writer import only_writer

    with ExitStack() as stack:
        for folder in sorted({path.resolve().parent for path in files}):  # a fixed order prevents a deadlock
            stack.enter_context(only_writer(folder, wait=WAIT))
        for path, data in files.items():
            write_atomic(path, data)
