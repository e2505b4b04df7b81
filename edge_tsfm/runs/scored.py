"""Which patients an evaluation of a run may score: held-out ones, and what must be said about any others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edge_tsfm.data import Dataset, Part, Series, Windows
from edge_tsfm.errors import DataError
from edge_tsfm.runs.run import Run, cut, read_run_data


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


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The series to score, on how many of them the run was trained, and what a reader must know about them."""

    series: tuple[Series, ...]
    trained: int
    notes: tuple[str, ...]


def scored_series(run: Run, dataset: Dataset, part: Part, *, allow_trained: bool) -> Scored:
    """Choose the series of ``part`` to score.

    Raises `DataError` when the run was, or may have been, trained on some of them and that was not asked for.
    """
    by = run.split.by
    words = WORDS[by]
    series = run.split.series(dataset.series, part)
    notes = []
    suspects = run.split.trained_items(series) if by == "item" or part in ("train", "all") else set()
    trained = _trained(run, dataset, suspects) if suspects else set()
    if trained:
        said = f"{len(trained)} of {len({one.item_id for one in series})} {words.trained} the run was trained on"
        if not allow_trained:
            raise DataError(
                f"{said}: scores on them show nothing about {words.new}",
                hint=f"leave out --split to score test {by}s, or ask for it with --allow-trained-patients",
            )
        notes.append(f"{said}: these are NOT figures for {words.new}")
    if part == "validation" or (part == "all" and _is_own(run, dataset)):
        notes.append(f"validation {words.validation} decided when training stopped and whether the gate accepted")
    if by == "time" and part != "all":
        notes.append("split by time: figures are for a later time of these series, not for others")
    if dataset.signal != run.target:
        notes.append(f"the run was trained on {run.target}, this is {dataset.signal}")
    before = run.record["data"]["report"]["interval"]
    if dataset.report.interval != before:
        notes.append(f"the run was trained on data every {before}, this is every {dataset.report.interval}")
    return Scored(series=series, trained=len(trained), notes=tuple(notes))


def scored_windows(
    run: Run, dataset: Dataset, part: Part, *, block_length: int | None = None, min_observed: int | None = None
) -> Windows:
    """Cut the windows to score; ``block_length`` and ``min_observed`` default to the run's.

    Raises `DataError` where there is none.
    """
    config = run.config if min_observed is None else replace(run.config, min_observed=min_observed)
    parts = run.split if block_length is None else replace(run.split, block_length=block_length)
    windows = cut(dataset, parts, part, config)
    if not len(windows):
        words = WORDS[run.split.by]
        which = "" if part == "all" else f"{part} "
        raise DataError(
            f"{dataset.report.source}: no {which}{words.one} has a window of {config.context_length} → "
            f"{config.prediction_length} steps with {config.min_observed} observed values",
            hint=(
                "longer series, or another --target"
                if part == "all"
                else f"{words.few}; data of patients the run never saw may be scored whole with --split all"
            ),
        )
    return windows


def validation_windows(run: Run, dataset: Dataset) -> Windows:
    """Cut the windows of the run's validation patients, out of ``dataset`` where that is the run's own."""
    return cut(dataset, run.split, "validation", run.config) if _is_own(run, dataset) else run.windows("validation")


def _is_own(run: Run, dataset: Dataset) -> bool:
    """Whether ``dataset`` is what the run was trained on."""
    return bool(dataset.fingerprint == run.record["data"]["fingerprint"])


def _trained(run: Run, dataset: Dataset, suspects: set[str]) -> set[str]:
    """Return which of ``suspects``, patients of the training split, the run was trained on; all where unknown."""
    if _is_own(run, dataset) or not Path(run.config.data).exists():
        return suspects
    return suspects & set(read_run_data(run.config).item_ids)
