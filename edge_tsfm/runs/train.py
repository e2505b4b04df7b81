"""`train`: from a configuration to a run folder with its verdict."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device_runtime.files import write_atomic
from edge_tsfm.data import Dataset, Split, Windows
from edge_tsfm.data.sources import Source
from edge_tsfm.data.use import interval_us
from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.evaluation import judge
from edge_tsfm.evaluation.sight import look_ahead
from edge_tsfm.methods import attach, find_method, learning_rates
from edge_tsfm.models import FAMILIES, load_base
from edge_tsfm.models.base import context_of
from edge_tsfm.one_writer import is_empty, only_writer
from edge_tsfm.progress import Work
from edge_tsfm.runs.advice import advice
from edge_tsfm.runs.card import peft_card
from edge_tsfm.runs.peft_form import save_peft_form
from edge_tsfm.runs.record import RUN_FILE
from edge_tsfm.runs.run import (
    CHECKPOINT_FILE,
    NUMBERS_FILE,
    PEFT_FOLDER,
    Run,
    binding_of,
    cut,
    digests,
    forecast,
    read_run_data,
    split_of_run,
)
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.curves import curve_csv, draw_curve
from edge_tsfm.training.entries import choose_for_run, read_entries
from edge_tsfm.training.loop import check_windows, fit
from export.threads import threads_for

Report = Callable[[int, float, float], None]


def train(
    config: TrainConfig,
    out: Path,
    *,
    source: Source | None = None,
    resume: bool = False,
    force: bool = False,
    report: Report = lambda *_: None,
    work: Work | None = None,
    remark: Callable[[str], None] = lambda _: None,
) -> Run:
    """Adapt a base as ``config`` says and write the run folder ``out``; the verdict is in it, accepted or not.

    ``source`` are the data where they are in no file that ``config`` could name.
    ``resume`` continues a run that was killed; ``force`` records that an adapter is accepted by hand although the
    gate refuses it. ``report`` is called after every step, ``work`` holds what is left to do and how long it takes,
    ``remark`` hears what the gate will be able to see, before training begins.

    Raises `TrainError`, `ConfigError`, `DataError` and `ModelError`, and `InUseError` while another process trains in
    ``out``.
    """
    with only_writer(out):
        return _train(
            config, out, source, resume=resume, force=force, report=report, work=work or Work(), remark=remark
        )


def _train(
    config: TrainConfig,
    out: Path,
    source: Source | None,
    *,
    resume: bool,
    force: bool,
    report: Report,
    work: Work,
    remark: Callable[[str], None],
) -> Run:
    """Do what `train` says, alone in ``out``."""
    _begin(out, resume=resume)
    start = time.monotonic()
    torch.manual_seed(config.seed)
    base = load_base(config.base)
    family = FAMILIES[base.family]
    if config.context_length > (most := context_of(base)):
        raise ConfigError(
            f"context_length {config.context_length}: base {base.name} reads at most {most} steps",
            hint=f"--context-length {most} or less; a longer one changes nothing",
        )
    dataset = read_run_data(config, source)
    binding_of(dataset.signal, interval_us(dataset.interval), config)  # better an error now than when it is exported
    split = split_of_run(config, dataset)
    windows = _windows(config, dataset, split)
    config.season_of(dataset)  # `evaluate` will want it: better an error now than after training
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resumed = (out / CHECKPOINT_FILE).exists()
    entries = read_entries(config, out) if resumed else choose_for_run(config, base, windows["train"], out, device)
    gate = windows["gate"].draw(config.gate_windows, config.seed)
    levels = family.levels(base.model)
    work.plan(gate=2)
    with work.timed("gate"):
        frozen = forecast(base.model.to(device), base.family, gate.context, config.prediction_length)
    sight = look_ahead(frozen, gate, levels)
    remark(str(sight or "the gate has no observed target to judge by"))
    method = find_method(config.method, entries)
    model = copy.deepcopy(base.model)
    tensors = attach(model, method, config.options)
    own = learning_rates(model, method, config.learning_rate)
    rates = {name: rate * config.learning_rate_factor for name, rate in own.items()}
    with threads_for(model):
        fitted = fit(
            model.to(device),
            family,
            windows["train"],
            windows["stopping"],
            config,
            rates=rates,
            checkpoint=out / CHECKPOINT_FILE,
            identity={"configuration": config.to_dict(), "data": dataset.fingerprint, "base": base.digest},
            report=report,
            work=work,
        )
    with work.timed("gate"):
        tuned = forecast(model, base.family, gate.context, config.prediction_length)
    verdict = judge(tuned, frozen, gate, levels, seed=config.seed)
    model.cpu()
    base.model.cpu()
    numbers = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    _write_numbers(out, numbers)
    write_atomic(out / "curves.csv", curve_csv(fitted.curve))
    write_atomic(out / "curves.png", draw_curve(fitted.curve, fitted.best_step, metric=family.stopping_metric))
    if method.exportable:
        changes = _changes(method.deltas(model, config.options, "int16"), base.model)
        save_peft_form(base.model, changes, out / PEFT_FOLDER, base_name=config.base)
    record: dict[str, Any] = {
        "config": config.to_dict(),
        "channel": dataset.signal,
        "base": {"name": base.name, "source": base.source, "family": base.family, "digest": base.digest},
        "data": {
            "fingerprint": dataset.fingerprint,
            "interval_us": interval_us(dataset.interval),
            "items": len(dataset.item_ids),
            "split": split.to_dict(),
            "report": dataset.report.to_dict(),
        },
        "windows": {**{name: len(part) for name, part in windows.items()}, "gate_drawn": len(gate)},
        "files": digests(out),
        "tensors": tensors,
        "parameters": sum(number.numel() for number in numbers.values()),
        "learning_rates": sorted(set(rates.values())),
        "training": {
            "best_step": fitted.best_step,
            "metric": family.stopping_metric,
            "best": fitted.best_score,
            "base": fitted.curve[0][2],
            "stopped_early": fitted.stopped_early,
            "seconds": round(time.monotonic() - start, 1),
            "device": device.type,
        },
        "gate": verdict.to_dict() | {"unit": gate.unit, "forced": bool(force and not verdict.accepted)},
        "gate_expected": None if sight is None else sight.to_dict(),
        "versions": {name: version(name) for name in ("edge-tsfm", "torch", "chronos-forecasting", "peft", "numpy")},
    }
    if not verdict.accepted:
        record["advice"] = advice(record, fitted.curve)
    if method.exportable:
        write_atomic(out / PEFT_FOLDER / "README.md", peft_card(record).encode())  # in place of PEFT's empty one
    # Last: a folder with run.json is a finished run.
    write_atomic(out / RUN_FILE, (json.dumps(record, indent=2, default=str) + "\n").encode())
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return Run(path=out, record=json.loads(json.dumps(record, default=str)))


def _begin(out: Path, *, resume: bool) -> None:
    """Make the run folder. Raises `TrainError` when something else is there."""
    if not is_empty(out) and not resume:
        raise TrainError(
            f"{out} is not empty", hint="give another --out, or --resume to continue a run that was killed"
        )
    if (out / RUN_FILE).exists():
        raise TrainError(f"{out} is finished: nothing to resume", hint="give another --out to train again")
    out.mkdir(parents=True, exist_ok=True)


def _windows(config: TrainConfig, dataset: Dataset, split: Split) -> dict[str, Windows]:
    """Cut the parts that training, early stopping and the gate see. Raises `TrainError` when one of them has none."""
    windows = {
        "train": cut(dataset, split, "train", config, config.train_stride),
        "stopping": cut(dataset, split, "stopping", config),
        "gate": cut(dataset, split, "gate", config),
    }
    check_windows(windows["train"], windows["stopping"])
    if not len(windows["gate"]):
        raise TrainError(
            f"{dataset.report.source}: no window to judge by in the gate's part of the data",
            hint="more patients, or a longer series; docs/guides/data.md says how data are split",
        )
    return windows


def _changes(deltas: dict[str, Any], base: Any) -> dict[str, torch.Tensor]:
    """Evaluate deltas as torch tensors in their parameters' shapes; a parameter the base lacks is an added bias."""
    parameters = dict(base.named_parameters())
    changes = {}
    for name, delta in deltas.items():
        weights = parameters[name].detach().cpu().numpy() if name in parameters else np.zeros(delta.shape[0])
        added = delta.dense(weights.astype(np.float64).reshape(delta.shape))
        changes[name] = torch.from_numpy(added.reshape(weights.shape))
    return changes


def _write_numbers(out: Path, numbers: dict[str, torch.Tensor]) -> None:
    """Write the method's own parameters."""
    from safetensors.torch import save

    write_atomic(out / NUMBERS_FILE, save({name: number.contiguous() for name, number in numbers.items()}))
