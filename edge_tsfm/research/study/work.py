"""What a worker does with one cell. Everything it makes is in the cell's folder; a finished cell is left alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from device_runtime.files import write_atomic
from edge_tsfm.data import Dataset
from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.evaluation.baselines import BASELINES, SEASONAL, baseline_quantiles, seasonal_quantiles
from edge_tsfm.models import FAMILIES, load_base
from edge_tsfm.one_writer import only_writer
from edge_tsfm.research.study.cells import Cell
from edge_tsfm.research.study.scores import LEVELS, SCORES_FILE, read_scores, write_scores
from edge_tsfm.runs.record import RUN_FILE, CellRecord, read_record
from edge_tsfm.runs.run import CHECKPOINT_FILE, cut, forecast, load_run, read_run_data, split_of_run
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.stored import read_parameters

TRAINED = ("adapter", "nhits")
NETWORK_FILE = "network.safetensors"


def perform(cell: Cell, out: Path) -> None:
    """Do what is not done yet of ``cell``: train, then score the test part. Resumes what was interrupted."""
    folder = out / cell.folder
    if cell.kind in TRAINED and not is_trained(cell, out):
        TRAINERS[cell.kind](cell, folder)
    if cell.scored and not is_scored(cell, out):
        dataset = read_run_data(cell.config)
        with only_writer(folder):
            SCORERS[cell.kind](cell, folder, dataset)


def is_done(cell: Cell, out: Path) -> bool:
    """Return whether nothing is left to do. Raises `ConfigError` for a folder made with another configuration."""
    return (cell.kind not in TRAINED or is_trained(cell, out)) and (not cell.scored or is_scored(cell, out))


def is_trained(cell: Cell, out: Path) -> bool:
    """Return whether a run folder is finished."""
    path = out / cell.folder / RUN_FILE
    if not path.exists():
        return False
    _check_same(cell, read_record(path, CellRecord)["config"], path)
    return True


def is_scored(cell: Cell, out: Path) -> bool:
    """Return whether a cell's test scores are there."""
    path = out / cell.folder / SCORES_FILE
    if not path.exists():
        return False
    _check_same(cell, read_scores(path).record["config"], path)
    return True


def _check_same(cell: Cell, found: dict[str, Any], path: Path) -> None:
    """Refuse a folder of another study: its figures would stand under the wrong heading."""
    wanted = _defining(cell)
    recorded = _defining(replace(cell, config=TrainConfig.from_dict(found, f"{path}: [config]")))
    other = [key for key, value in wanted.items() if recorded[key] != value]
    if other:
        key = other[0]
        raise ConfigError(
            f"{path} was made with {key} = {recorded[key]!r}, the study wants {wanted[key]!r}",
            hint="give another --out, or remove that folder to make it again",
        )


# An untrained baseline does not depend on how others are trained.
FORECAST_KEYS = (
    "target",
    "split_by",
    "block_length",
    "season",
    "context_length",
    "prediction_length",
    "min_observed",
)


def _defining(cell: Cell) -> dict[str, Any]:
    """Return the part of a configuration that decides a cell's figures; data are compared by fingerprint instead."""
    values = {key: value for key, value in cell.config.to_dict().items() if key != "data"}
    return values if cell.kind in TRAINED else {key: values[key] for key in FORECAST_KEYS}


def _train_adapter(cell: Cell, folder: Path) -> None:
    from edge_tsfm.runs.train import train

    train(cell.config, folder, resume=True)


def _train_nhits(cell: Cell, folder: Path) -> None:
    """Train the network by the adapters' own loop and write a record of the same form."""
    with only_writer(folder):
        _fit_nhits(cell, folder)


def _fit_nhits(cell: Cell, folder: Path) -> None:
    """Do what `_train_nhits` says, alone in ``folder``."""
    from safetensors.torch import save

    from edge_tsfm.research.study.nhits import LEARNING_RATE, NHits, make_network
    from edge_tsfm.training.loop import fit

    start = time.monotonic()
    config = cell.config
    dataset = read_run_data(config)
    split = split_of_run(config, dataset)
    train = cut(dataset, split, "train", config, config.train_stride)
    stopping = cut(dataset, split, "stopping", config)
    network = make_network(config.context_length, config.prediction_length, config.seed).to(_device())
    rate = LEARNING_RATE * config.learning_rate_factor
    fitted = fit(
        network,
        NHits(),
        train,
        stopping,
        config,
        rates={name: rate for name, _ in network.named_parameters()},
        checkpoint=folder / CHECKPOINT_FILE,
        identity={"configuration": config.to_dict(), "data": dataset.fingerprint, "network": "n-hits"},
    )
    network.cpu()
    # Parameters only: the library's losses share a buffer of levels, which `make_network` makes anyhow.
    stored = save({name: p.detach().contiguous() for name, p in network.named_parameters()})
    write_atomic(folder / NETWORK_FILE, stored)
    record = {
        "config": config.to_dict(),
        "data": {"fingerprint": dataset.fingerprint},
        "files": {NETWORK_FILE: sha256(stored).hexdigest()},
        "windows": {"train": len(train), "stopping": len(stopping)},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "learning_rates": [rate],
        "training": {
            "best_step": fitted.best_step,
            "metric": NHits.stopping_metric,
            "best": fitted.best_score,
            "stopped_early": fitted.stopped_early,
            "seconds": round(time.monotonic() - start, 1),
        },
        "versions": {name: version(name) for name in ("edge-tsfm", "torch", "neuralforecast")},
    }
    write_atomic(folder / RUN_FILE, (json.dumps(record, indent=2) + "\n").encode())
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _score_adapter(cell: Cell, folder: Path, dataset: Dataset) -> None:
    run = load_run(folder)
    windows = _test_windows(cell, dataset)
    quantiles = forecast(
        run.tuned_model().to(_device()), run.base["family"], windows.context, cell.config.prediction_length
    )
    write_scores(folder / SCORES_FILE, {cell.label: quantiles}, windows, run.quantile_levels(), _record(cell, dataset))


def _score_nhits(cell: Cell, folder: Path, dataset: Dataset) -> None:
    from edge_tsfm.research.study.nhits import NHits, make_network

    network = make_network(cell.config.context_length, cell.config.prediction_length, cell.config.seed)
    _check_network(folder)
    stored = read_parameters(folder / NETWORK_FILE)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(stored[name])
    windows = _test_windows(cell, dataset)
    with torch.no_grad():
        quantiles = (
            NHits().quantiles(network.eval(), torch.from_numpy(windows.context), cell.config.prediction_length).numpy()
        )
    write_scores(folder / SCORES_FILE, {cell.label: quantiles}, windows, LEVELS, _record(cell, dataset))


def _check_network(folder: Path) -> None:
    """Refuse a network that its cell's record does not pin; older records pin nothing. Raises `TrainError`."""
    pinned = (read_record(folder / RUN_FILE, CellRecord).get("files") or {}).get(NETWORK_FILE)
    if pinned not in (None, sha256((folder / NETWORK_FILE).read_bytes()).hexdigest()):
        raise TrainError(f"{folder / NETWORK_FILE} is not what {RUN_FILE} pins", hint="remove the cell's folder")


def _score_base(cell: Cell, folder: Path, dataset: Dataset) -> None:
    base = load_base(cell.base)
    windows = _test_windows(cell, dataset)
    quantiles = forecast(base.model.to(_device()), base.family, windows.context, cell.config.prediction_length)
    levels = FAMILIES[base.family].levels(base.model)
    write_scores(
        folder / SCORES_FILE, {"base": quantiles}, windows, levels, {**_record(cell, dataset), "digest": base.digest}
    )


def _score_simple(cell: Cell, folder: Path, dataset: Dataset) -> None:
    windows = _test_windows(cell, dataset)
    forecasts = {
        name: baseline_quantiles(name, windows.context, cell.config.prediction_length, LEVELS) for name in BASELINES
    }
    season = cell.config.season_of(dataset)
    if season is not None:
        forecasts[SEASONAL] = seasonal_quantiles(windows.context, cell.config.prediction_length, LEVELS, season)
    write_scores(folder / SCORES_FILE, forecasts, windows, LEVELS, _record(cell, dataset))


def _score_auto_ets(cell: Cell, folder: Path, dataset: Dataset) -> None:
    from edge_tsfm.research.study.auto_ets import auto_ets

    windows = _test_windows(cell, dataset)
    season = cell.config.season_of(dataset) or 1
    forecasts = {cell.label: auto_ets(windows.context, cell.config.prediction_length, season)}
    write_scores(folder / SCORES_FILE, forecasts, windows, LEVELS, _record(cell, dataset))


def _test_windows(cell: Cell, dataset: Dataset) -> Any:
    """Cut the test part's windows; nothing that trains or chooses ever calls this."""
    return cut(dataset, split_of_run(cell.config, dataset), "test", cell.config)


def _record(cell: Cell, dataset: Dataset) -> dict[str, Any]:
    return {
        "config": cell.config.to_dict(),
        "fingerprint": dataset.fingerprint,
        "versions": {name: version(name) for name in ("edge-tsfm", "torch", "numpy")},
    }


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


TRAINERS: dict[str, Callable[[Cell, Path], None]] = {"adapter": _train_adapter, "nhits": _train_nhits}
SCORERS: dict[str, Callable[[Cell, Path, Dataset], None]] = {
    "adapter": _score_adapter,
    "nhits": _score_nhits,
    "base": _score_base,
    "simple": _score_simple,
    "auto_ets": _score_auto_ets,
}
