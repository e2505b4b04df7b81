"""Evaluating a run: its adapter beside its frozen base and simple baselines, on held-out patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.quantiles import calibrate
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.binding import check
from device_runtime.nearest import did_you_mean_path
from edge_tsfm.data import DataOptions, Dataset, Part, Windows, read_dataset
from edge_tsfm.data.sources import Source
from edge_tsfm.data.use import use_of
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.evaluation import Report, evaluate_forecasts
from edge_tsfm.evaluation.baselines import SEASONAL, seasonal_quantiles
from edge_tsfm.evaluation.calibration import fit_calibration
from edge_tsfm.evaluation.report import ADAPTER, BASE, CALIBRATED, DEVICE
from edge_tsfm.evaluation.subgroups import subgroup_labels
from edge_tsfm.progress import Work
from edge_tsfm.report.scale import Scale
from edge_tsfm.report.verdict import RunVerdict, Seen
from edge_tsfm.runs.on_device import device_facts, device_forecasters, device_note, device_quantiles
from edge_tsfm.runs.run import Run, forecast
from edge_tsfm.runs.scored import Scored, scored_series, scored_windows, validation_windows

FloatArray = NDArray[np.float32]
Predict = Callable[[FloatArray], FloatArray]  # contexts [N, L] to quantiles [N, H, Q]
Tell = Callable[[str], None]  # how far the work is, in words
BATCH = 256  # windows between two words of progress


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is scored, and beside what."""

    part: Part = "test"
    allow_trained: bool = False  # patients that the run was trained on may be scored
    block_length: int | None = None  # of a split by time: steps drawn together; None: the run's
    min_observed: int | None = None  # values that a context must have; None: the run's
    subgroups: tuple[str, ...] = ()  # columns
    calibrate: bool = False  # also with quantiles calibrated on the run's validation patients
    bundle: Path | None = None  # also what the device's runtime forecasts with this ...
    adapter: Path | None = None  # ... and this blob of the run
    session: SessionSettings | None = None  # ... in such a session
    accept: tuple[str, ...] = ()  # differences from the run's signal and interval, by name
    most: int | None = None  # windows, drawn by the seed; None: all
    seed: int = 0
    resamples: int = 1_000

    def __post_init__(self) -> None:
        """Refuse a bundle without an adapter, or the other way round."""
        if (self.bundle is None) != (self.adapter is None):
            raise ConfigError("bundle and adapter go together: the device's forecasts need both")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found, on what, and by which forecasts."""

    title: str
    report: Report
    scale: Scale  # what the axes of its pictures say
    verdict: RunVerdict
    notes: tuple[str, ...]
    record: Mapping[str, Any]  # JSON-ready: docs/guides/evaluation.md has the schema
    windows: Windows
    forecasts: Mapping[str, FloatArray]  # of the base, by name: [N, H, Q]
    quantile_levels: tuple[float, ...]  # Q


def read_for(run: Run, data: Source | None, options: DataOptions, *, target: str | None = None) -> Dataset:
    """Read ``data``, None: the run's own, with the run's target and options but for those that are given.

    Raises `DataError`.
    """
    source = run.config.data if data is None else data
    if isinstance(source, str | Path) and not Path(source).exists():
        hint = "the run was trained on it; give the data: edge-tsfm evaluate RUN DATA"
        if data is not None:
            hint = did_you_mean_path(source)
        raise DataError(f"{source} does not exist", hint=hint or None)
    return read_dataset(source, options.over(run.config.reading), target=target or run.config.target)


def evaluate_run(
    run: Run, dataset: Dataset, options: Options, *, work: Work | None = None, tell: Tell = lambda _: None
) -> Evaluation:
    """Score a run's adapter on ``dataset``; ``work`` counts how much is left, and ``tell`` is called as it falls.

    Raises `DataError` if there is nothing to score, or if the run was trained on the patients and that is not allowed;
    `SignalMismatchError` for data of another signal or interval that was not accepted; and like `device_forecasters`.
    """
    scored = scored_series(run, dataset, options.part, allow_trained=options.allow_trained)
    windows = scored_windows(
        run, dataset, options.part, block_length=options.block_length, min_observed=options.min_observed
    )
    notes = list(scored.notes)
    if options.most is not None and options.most < len(windows):
        notes.append(f"{options.most:,} of {len(windows):,} windows, drawn by seed {options.seed}")
        windows = windows.draw(options.most, options.seed)
    season = run.config.season_of(dataset)  # before anything slow, as is all that can be refused
    subgroups = {column: subgroup_labels(scored.series, windows, column) for column in options.subgroups}
    on_device = _on_device(run, dataset, options)
    facts = device_facts(on_device[DEVICE]) if on_device else None
    notes += _accepted(run, dataset, options.accept) + ([device_note(facts)] if facts else [])
    predicts = _predicts(run, on_device)
    work = work or Work()
    forecasts = _forecasts(predicts, windows.context, work, tell)
    levels = run.quantile_levels()
    if options.calibrate:
        held_out = validation_windows(run, dataset)
        before = _forecasts({ADAPTER: predicts[ADAPTER]}, held_out.context, work, tell)[ADAPTER]
        forecasts[CALIBRATED] = calibrate(forecasts[ADAPTER], fit_calibration(before, held_out, levels))
    length = run.config.prediction_length
    simple = {} if season is None else {SEASONAL: seasonal_quantiles(windows.context, length, levels, season)}
    report = evaluate_forecasts(
        {**forecasts, **simple},
        windows,
        levels,
        seed=options.seed,
        resamples=options.resamples,
        subgroups=subgroups,
    )
    record = _record(run, dataset, options.part, scored, notes, report, facts)
    noun = f"{windows.unit}s" if run.split.by == "item" else "time"
    return Evaluation(
        title=f"{run.target}: {run.method} on {run.base['name']}, {options.part} {noun} of {dataset.report.source}",
        report=report,
        scale=Scale.of(run.binding),
        verdict=RunVerdict(gate=run.gate, seen=Seen.from_dict(record)),
        notes=tuple(notes),
        record=record,
        windows=windows,
        forecasts=forecasts,
        quantile_levels=levels,
    )


def _on_device(run: Run, dataset: Dataset, options: Options) -> dict[str, Forecaster]:
    """Open what the device would forecast the dataset with; nothing where no bundle was given."""
    if options.bundle is None or options.adapter is None:
        return {}
    return device_forecasters(run, options.bundle, options.adapter, use_of(dataset), options.accept, options.session)


def _accepted(run: Run, dataset: Dataset, accept: Sequence[str]) -> list[str]:
    """Refuse data of another signal or interval than the run's; say what was accepted by hand."""
    differences = check(run.binding, use_of(dataset), accept)
    return [f"the run was trained for another {what}; accepted by hand" for what in differences]


def _predicts(run: Run, on_device: Mapping[str, Forecaster]) -> dict[str, Predict]:
    """Name who forecasts: the adapter and its base in torch, and those ``on_device``."""
    family, length = run.base["family"], run.config.prediction_length

    def in_torch(model: nn.Module) -> Predict:
        return lambda context: forecast(model, family, context, length)

    def by_runtime(forecaster: Forecaster) -> Predict:
        return lambda context: device_quantiles(forecaster, context, length)

    torches = {ADAPTER: in_torch(run.tuned_model()), BASE: in_torch(run.base_model.model)}
    return torches | {name: by_runtime(forecaster) for name, forecaster in on_device.items()}


def _forecasts(predicts: Mapping[str, Predict], context: FloatArray, work: Work, tell: Tell) -> dict[str, FloatArray]:
    """Forecast contexts ``[N, L]`` with each of ``predicts``: quantiles ``[N, H, Q]``.

    All of them take a batch before the next one is begun: the device's runtime, one context at a time, takes a hundred
    times as long as torch, and the time left is known from the first batch on.
    """
    parts: dict[str, list[FloatArray]] = {name: [] for name in predicts}
    work.plan(**dict.fromkeys(predicts, len(context)))
    for start in range(0, len(context), BATCH):
        batch = context[start : start + BATCH]
        for name, predict in predicts.items():
            with work.timed(name, len(batch)):
                parts[name].append(predict(batch))
        tell(f"{start + len(batch):,} of {len(context):,} windows")
    return {name: np.concatenate(done) for name, done in parts.items()}


def _record(
    run: Run,
    dataset: Dataset,
    part: str,
    scored: Scored,
    notes: Sequence[str],
    report: Report,
    device: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Put the figures beside what they are of."""
    return {
        "run": {
            "method": run.method,
            "target": run.target,
            "parameters": run.record["parameters"],
            "numbers": run.parameters_digest,  # the key is older than the word
            "training_data": run.record["data"]["fingerprint"],
            "base": dict(run.base),
            "seed": run.config.seed,
            "gate": dict(run.gate),
        },
        "data": {
            "source": dataset.report.source,
            "channel": dataset.signal,
            "interval": dataset.report.interval,
            "fingerprint": dataset.fingerprint,
            "split": part,
            "trained_items": scored.trained,
            "split_by": run.split.by,
        },
        **({"device": dict(device)} if device else {}),
        "notes": list(notes),
        "versions": {name: version(name) for name in ("edge-tsfm", "torch", "chronos-forecasting", "numpy")},
        **report.to_dict(),
    }
