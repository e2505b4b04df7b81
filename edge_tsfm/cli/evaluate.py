"""``edge-tsfm evaluate``: an adapter beside its frozen base and simple baselines, on patients it never saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.options import accept_option
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.progress import Progress, quiet_option
from edge_tsfm.cli.reading import read_options
from edge_tsfm.cli.runs import open_run
from edge_tsfm.errors import DataError
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from device_runtime.forecast.forecaster import Forecaster
    from edge_tsfm.data import Dataset, Part, Series, Windows
    from edge_tsfm.evaluation import Report
    from edge_tsfm.runs.run import Run

Predict = Callable[[Any], Any]  # contexts [N, L] to quantiles [N, H, Q]


@dataclass(frozen=True)
class _Words:
    """What is said of a run's parts."""

    one: str
    few: str  # what to do when a part has none
    trained: str
    new: str
    validation: str


WORDS = {
    "item": _Words(
        one="patient",
        few="about one patient in ten is a test patient, by a hash of the id",
        trained="patients are ones",
        new="new patients",
        validation="patients",
    ),
    "time": _Words(
        one="stretch of time",
        few="the last fifth of the time that the run's own data span is the test's",
        trained="series are ones whose earlier part",
        new="a later time",
        validation="stretches",
    ),
}
WAIT = 60.0  # seconds for another evaluation to write the same files
BATCH = 256  # windows between two steps of the progress bar


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
@click.option("--target", help="Channel or column.  [default: what the run was trained on]")
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
    subgroups: tuple[str, ...],
    calibrate: bool,
    bundle: Path | None,
    adapter: Path | None,
    most: int | None,
    seed: int,
    resamples: int,
    csv_file: Path | None,
    html_file: Path | None,
    plots: Path | None,
    quiet: bool,
    as_json: bool,
    accept: tuple[str, ...],
    min_observed: int | None,
    **reading: Any,
) -> None:
    """Score a RUN's adapter on the test patients of DATA, left out: the data it was trained on.

    Beside it stand its frozen base, persistence, the window's mean, a linear trend and exponential smoothing, with
    intervals by bootstrap over patients. Says plainly when the adapter does not beat its base.
    """
    from device_runtime.forecast.quantiles import calibrate as apply_calibration
    from edge_tsfm.evaluation import evaluate_forecasts
    from edge_tsfm.evaluation.baselines import SEASONAL, seasonal_quantiles
    from edge_tsfm.evaluation.report import ADAPTER, CALIBRATED, DEVICE
    from edge_tsfm.evaluation.subgroups import subgroup_labels
    from edge_tsfm.report.page import report_page
    from edge_tsfm.report.plots import forecast_plot, metric_plot
    from edge_tsfm.report.text import report_text
    from edge_tsfm.report.verdict import RunVerdict, Seen
    from edge_tsfm.runs.on_device import device_facts, device_note

    trained = open_run(run)
    _check_options(trained, bundle, adapter, block_length)
    config = trained.config
    dataset = _read(trained, data, reading)
    series, seen, notes = _patients(trained, dataset, split, allow_trained_patients)
    windows = _windows(trained, dataset, split, block_length, min_observed)
    if most is not None and most < len(windows):
        notes.append(f"{most:,} of {len(windows):,} windows, drawn by seed {seed}")
        windows = windows.draw(most, seed)
    season = config.season_of(dataset)  # before anything slow
    on_device = _on_device(trained, dataset, bundle, adapter, accept)
    facts = device_facts(on_device[DEVICE]) if on_device else None
    notes += _accepted(trained, dataset, accept) + ([device_note(facts)] if facts else [])
    predicts = _predicts(trained, on_device)
    forecasts = _forecasts(predicts, windows.context, quiet=quiet)
    levels = trained.quantile_levels()
    if calibrate:
        fitted = _fitted(trained, dataset, predicts[ADAPTER], levels, quiet=quiet)
        forecasts[CALIBRATED] = apply_calibration(forecasts[ADAPTER], fitted)
    simple = (
        {}
        if season is None
        else {SEASONAL: seasonal_quantiles(windows.context, config.prediction_length, levels, season)}
    )
    report = evaluate_forecasts(
        {**forecasts, **simple},
        windows,
        levels,
        seed=seed,
        resamples=resamples,
        subgroups={column: subgroup_labels(series, windows, column) for column in subgroups},
    )
    noun = f"{windows.unit}s" if trained.split.by == "item" else "time"
    title = f"{trained.target}: {trained.method} on {trained.base['name']}, {split} {noun} of {dataset.report.source}"
    record = _record(trained, dataset, split, seen, notes, report, facts)
    verdict = RunVerdict(gate=trained.gate, seen=Seen.from_dict(record))
    written: dict[Path, bytes] = {} if csv_file is None else {csv_file: report.csv().encode()}
    if plots is not None or html_file is not None:
        shown = f"{title}\n{verdict.label}"
        pictures = {
            "forecasts": forecast_plot(forecasts, windows, levels, seed=seed, title=shown),
            "figures": metric_plot(report, title=shown),
        }
        page = report_page(report, title=title, verdict=verdict, notes=notes, pictures=list(pictures.items()))
        written |= _with_pictures(page, pictures, plots, html_file)
    _write_together(written)
    said = [title, *(f"note: {note}" for note in notes), report_text(report, verdict)]
    click.echo(json.dumps({"verdict": verdict.to_dict(), **record}, indent=2) if as_json else "\n".join(said))


def _with_pictures(
    page: str, pictures: Mapping[str, bytes], plots: Path | None, html_file: Path | None
) -> dict[Path, bytes]:
    """Return the pictures for the folder ``plots``, and the page that holds them."""
    written = {} if plots is None else {plots / f"{name}.png": picture for name, picture in pictures.items()}
    if html_file is not None:
        written[html_file] = page.encode()
    return written


def _fitted(run: Run, dataset: Dataset, predict: Predict, levels: Sequence[float], *, quiet: bool) -> Any:
    """Fit the calibration of ``predict`` on the run's validation patients."""
    from edge_tsfm.evaluation.calibration import fit_calibration
    from edge_tsfm.evaluation.report import ADAPTER

    held = _held(run, dataset)
    before = _forecasts({ADAPTER: predict}, held.context, quiet=quiet)[ADAPTER]
    return fit_calibration(before, held, levels)


def _check_options(run: Run, bundle: Path | None, adapter: Path | None, block_length: int | None) -> None:
    """Refuse options that do not go together."""
    if (bundle is None) != (adapter is None):
        raise click.UsageError("--bundle and --adapter go together: the device's forecasts need both")
    if block_length is not None and run.split.by == "item":
        raise click.UsageError("--block-length is for a run split by time; by item, intervals draw whole items")


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


def _read(run: Run, data: Path | None, reading: dict[str, Any]) -> Dataset:
    """Read ``data`` with the run's options, but for those in ``reading`` that were given."""
    from edge_tsfm.data import read_dataset

    source = data or Path(run.config.data)
    if not source.exists():
        hint = None if data else "the run was trained on it; give the data: edge-tsfm evaluate RUN DATA"
        raise DataError(f"{source} does not exist", hint=hint)
    return read_dataset(source, **(run.config.reading() | {name: given for name, given in reading.items() if given}))


def _on_device(
    run: Run, dataset: Dataset, bundle: Path | None, adapter: Path | None, accept: tuple[str, ...]
) -> dict[str, Forecaster]:
    """Open what the device would forecast the dataset with; nothing where no bundle was given."""
    from edge_tsfm.data.use import use_of
    from edge_tsfm.runs.on_device import device_forecasters

    if bundle is None or adapter is None:
        return {}
    return device_forecasters(run, bundle, adapter, use_of(dataset), accept)


def _accepted(run: Run, dataset: Dataset, accept: tuple[str, ...]) -> list[str]:
    """Refuse data of another signal or interval than the run's; say what was accepted by hand."""
    from device_runtime.format.binding import check
    from edge_tsfm.data.use import use_of

    differences = check(run.binding, use_of(dataset), accept)
    return [f"the run was trained for another {what}; accepted by hand" for what in differences]


def _windows(run: Run, dataset: Dataset, split: Part, block_length: int | None, min_observed: int | None) -> Windows:
    """Cut the windows to score. Raises `DataError` where there is none."""
    from edge_tsfm.runs.run import cut

    config = run.config if min_observed is None else replace(run.config, min_observed=min_observed)
    parts = run.split if block_length is None else replace(run.split, block_length=block_length)
    windows = cut(dataset, parts, split, config)
    if not len(windows):
        words = WORDS[run.split.by]
        which = "" if split == "all" else f"{split} "
        raise DataError(
            f"{dataset.report.source}: no {which}{words.one} has a window of {config.context_length} → "
            f"{config.prediction_length} steps with {config.min_observed} observed values",
            hint=(
                "longer series, or another --target"
                if split == "all"
                else f"{words.few}; data of patients the run never saw may be scored whole with --split all"
            ),
        )
    return windows


def _patients(
    run: Run, dataset: Dataset, split: Part, allow_trained: bool
) -> tuple[tuple[Series, ...], int, list[str]]:
    """Return the series to score, on how many the run was trained, and what a reader must know about them.

    Raises `DataError` when the run was, or may have been, trained on some of them and that was not asked for.
    """
    by = run.split.by
    words = WORDS[by]
    series = run.split.series(dataset.series, split)
    notes = []
    suspects = run.split.trained_items(series) if by == "item" or split in ("train", "all") else set()
    trained = _trained(run, dataset, suspects) if suspects else set()
    if trained:
        said = f"{len(trained)} of {len({one.item_id for one in series})} {words.trained} the run was trained on"
        if not allow_trained:
            raise DataError(
                f"{said}: scores on them say nothing about {words.new}",
                hint=f"leave out --split to score test {by}s, or ask for it with --allow-trained-patients",
            )
        notes.append(f"{said}: these are NOT figures for {words.new}")
    if split == "validation" or (split == "all" and dataset.fingerprint == run.record["data"]["fingerprint"]):
        notes.append(f"validation {words.validation} decided when training stopped and whether the gate accepted")
    if by == "time" and split != "all":
        notes.append("split by time: figures are for a later time of these series, not for others")
    if dataset.channel != run.target:
        notes.append(f"the run was trained on {run.target}, this is {dataset.channel}")
    before = run.record["data"]["report"]["interval"]
    if dataset.report.interval != before:
        notes.append(f"the run was trained on data every {before}, this is every {dataset.report.interval}")
    return series, len(trained), notes


def _trained(run: Run, dataset: Dataset, suspects: set[str]) -> set[str]:
    """Say which of ``suspects``, patients of the training split, the run was trained on; all where unknown."""
    from edge_tsfm.runs.run import read_run_data

    if dataset.fingerprint == run.record["data"]["fingerprint"] or not Path(run.config.data).exists():
        return suspects
    return suspects & set(read_run_data(run.config).item_ids)


def _held(run: Run, dataset: Dataset) -> Windows:
    """Cut the windows of the run's validation patients, out of ``dataset`` where that is the run's own."""
    from edge_tsfm.runs.run import cut

    if dataset.fingerprint == run.record["data"]["fingerprint"]:
        return cut(dataset, run.split, "validation", run.config)
    return run.windows("validation")


def _predicts(run: Run, on_device: Mapping[str, Forecaster]) -> dict[str, Predict]:
    """Name who forecasts: the adapter and its base in torch, and those ``on_device``."""
    from edge_tsfm.evaluation.report import ADAPTER, BASE
    from edge_tsfm.runs.on_device import device_quantiles
    from edge_tsfm.runs.run import forecast

    family, length = run.base["family"], run.config.prediction_length

    def in_torch(model: Any) -> Predict:
        return lambda context: forecast(model, family, context, length)

    def by_runtime(forecaster: Forecaster) -> Predict:
        return lambda context: device_quantiles(forecaster, context, length)

    torches = {ADAPTER: in_torch(run.tuned_model()), BASE: in_torch(run.base_model.model)}
    return torches | {name: by_runtime(forecaster) for name, forecaster in on_device.items()}


def _forecasts(predicts: Mapping[str, Predict], context: Any, *, quiet: bool) -> dict[str, Any]:
    """Forecast contexts ``[N, L]`` with each of ``predicts``: quantiles ``[N, H, Q]``.

    All of them take a batch before the next one is begun: the device's runtime, one context at a time, takes a hundred
    times as long as torch, and the time left is known from the first batch on.
    """
    import numpy as np

    parts: dict[str, list[Any]] = {name: [] for name in predicts}
    work = Work()
    work.plan(**dict.fromkeys(predicts, len(context)))
    with Progress("forecast", work, quiet=quiet) as progress:
        for start in range(0, len(context), BATCH):
            batch = context[start : start + BATCH]
            for name, predict in predicts.items():
                with work.timed(name, len(batch)):
                    parts[name].append(predict(batch))
                progress.update(f"{start + len(batch):,} of {len(context):,} windows")
    return {name: np.concatenate(done) for name, done in parts.items()}


def _record(
    run: Run,
    dataset: Dataset,
    split: str,
    seen: int,
    notes: list[str],
    report: Report,
    device: dict[str, Any] | None,
) -> dict[str, Any]:
    """Put the figures beside what they are of."""
    from importlib.metadata import version

    return {
        "run": {
            "method": run.method,
            "target": run.target,
            "parameters": run.record["parameters"],
            "numbers": run.numbers_digest,
            "training_data": run.record["data"]["fingerprint"],
            "base": dict(run.base),
            "seed": run.config.seed,
            "gate": dict(run.gate),
        },
        "data": {
            "source": dataset.report.source,
            "channel": dataset.channel,
            "interval": dataset.report.interval,
            "fingerprint": dataset.fingerprint,
            "split": split,
            "trained_items": seen,
            "split_by": run.split.by,
        },
        **({"device": device} if device else {}),
        "notes": notes,
        "versions": {name: version(name) for name in ("edge-tsfm", "torch", "chronos-forecasting", "numpy")},
        **report.to_dict(),
    }
