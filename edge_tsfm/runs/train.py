"""`train`: from a configuration to a run folder with its verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.files import write_atomic
from edge_tsfm.data.sources import Source
from edge_tsfm.data.use import interval_us
from edge_tsfm.errors import TrainError
from edge_tsfm.evaluation import apply_gate
from edge_tsfm.evaluation.sight import Sight, look_ahead
from edge_tsfm.models import FAMILIES
from edge_tsfm.one_writer import is_empty, only_writer
from edge_tsfm.progress import Work
from edge_tsfm.runs.advice import advice
from edge_tsfm.runs.card import peft_card
from edge_tsfm.runs.prepare import Setting, prepare
from edge_tsfm.runs.record import GROUPS_FILE, RUN_FILE
from edge_tsfm.runs.run import CHECKPOINT_FILE, PEFT_FOLDER, Run, digests
from edge_tsfm.runs.tuned import Tuned, tune, write_tuned
from edge_tsfm.training.callbacks import Callback, Several
from edge_tsfm.training.config import TrainConfig


def train(
    config: TrainConfig,
    out: Path,
    *,
    source: Source | None = None,
    resume: bool = False,
    force: bool = False,
    callbacks: Sequence[Callback] = (),
    work: Work | None = None,
    remark: Callable[[str], None] = lambda _: None,
) -> Run:
    """Adapt a base as ``config`` says and write the run folder ``out``; the verdict is in it, accepted or not.

    ``source`` are the data where they are in no file that ``config`` could name.
    ``resume`` continues a run that was killed; ``force`` records that an adapter is accepted by hand although the
    gate refuses it. ``callbacks`` hear of it as it goes on, ``work`` holds what is left to do and how long it takes,
    ``remark`` hears what the gate will be able to see, before training begins.

    Raises `TrainError`, `ConfigError`, `DataError` and `ModelError`, and `InUseError` while another process trains in
    ``out``.
    """
    heard = Several(callbacks)
    record: Mapping[str, Any] | None = None
    with only_writer(out):
        try:
            run = _train(
                config, out, source, resume=resume, force=force, heard=heard, work=work or Work(), remark=remark
            )
            record = run.record
        finally:
            heard.on_end(record)
        return run


def _train(
    config: TrainConfig,
    out: Path,
    source: Source | None,
    *,
    resume: bool,
    force: bool,
    heard: Callback,
    work: Work,
    remark: Callable[[str], None],
) -> Run:
    """Do what `train` says, alone in ``out``."""
    check_folder(out, resume=resume)
    since = time.monotonic()
    setting = prepare(config, out, source)
    work.plan(gate=2)
    begun = begin_run(setting, out, since=since, heard=heard, work=work, remark=remark)
    tuned = tune(begun.setting, out, heard.on_step, work)
    return end_run(begun, tuned, force=force, work=work)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run that is about to be trained, with what its frozen base forecasts."""

    setting: Setting
    out: Path
    frozen: NDArray[np.float32]  # [N, H, Q] at the gate
    sight: Sight | None
    since: float  # monotonic, in seconds


def begin_run(
    setting: Setting,
    out: Path,
    *,
    since: float,
    heard: Callback,
    work: Work,
    remark: Callable[[str], None] = lambda _: None,
) -> Begun:
    """Forecast the gate's windows with the frozen base, and say what the gate will be able to see."""
    with work.timed("gate"):
        frozen = setting.at_the_gate(setting.base.model.to(setting.device))
    sight = look_ahead(frozen, setting.gate, setting.levels)
    remark(str(sight or "the gate has no observed target to judge by"))
    heard.on_begin(_facts(setting))
    return Begun(setting=setting, out=out, frozen=frozen, sight=sight, since=since)


def end_run(begun: Begun, tuned: Tuned, *, force: bool, work: Work, also: Mapping[str, Any] | None = None) -> Run:
    """Ask the gate and write the run folder's files; ``also`` is added to its record."""
    setting, out, sight = begun.setting, begun.out, begun.sight
    with work.timed("gate"):
        forecasts = setting.at_the_gate(tuned.model)
    verdict = apply_gate(forecasts, begun.frozen, setting.gate, setting.levels, seed=setting.config.seed)
    write_tuned(setting, tuned, out)
    record = _record(setting, tuned, out, seconds=time.monotonic() - begun.since) | {
        "gate": verdict.to_dict() | {"unit": setting.gate.unit, "forced": bool(force and not verdict.accepted)},
        "gate_expected": None if sight is None else sight.to_dict(),
        "versions": {name: version(name) for name in ("edge-tsfm", "torch", "chronos-forecasting", "peft", "numpy")},
        **(also or {}),
    }
    if not verdict.accepted:
        record["advice"] = advice(record, tuned.fit.curve)
    if tuned.method.exportable:
        write_atomic(out / PEFT_FOLDER / "README.md", peft_card(record).encode())  # in place of PEFT's empty one
    # Last: a folder with run.json is a finished run.
    write_atomic(out / RUN_FILE, (json.dumps(record, indent=2, default=str) + "\n").encode())
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return Run(path=out, record=json.loads(json.dumps(record, default=str)))


def _facts(setting: Setting) -> dict[str, Any]:
    """Return the facts of a training run for its callbacks, without the path of the data."""
    config, base, dataset = setting.config, setting.base, setting.dataset
    said = {name: value for name, value in config.to_dict().items() if name not in ("data", "base")}
    return {
        "config": said,
        "signal": dataset.signal,
        "base": {"name": base.name, "family": base.family, "digest": base.digest},
        "data": {"fingerprint": dataset.fingerprint, "items": len(dataset.item_ids)},
        "windows": {name: len(part) for name, part in setting.windows.items()},
    }


def _record(setting: Setting, tuned: Tuned, out: Path, *, seconds: float) -> dict[str, Any]:
    """Describe what was trained on what, and how; the verdict comes beside it."""
    base, dataset, fitted = setting.base, setting.dataset, tuned.fit
    return {
        "config": setting.config.to_dict(),
        "channel": dataset.signal,
        "base": {
            "name": base.name,
            "source": base.source,
            "family": base.family,
            "digest": base.digest,
            "licence": base.licence,
        },
        "data": {
            "fingerprint": dataset.fingerprint,
            "interval_us": interval_us(dataset.interval),
            "items": len(dataset.item_ids),
            "split": setting.split.to_dict(),
            "report": dataset.report.to_dict(),
        },
        "windows": {**{name: len(part) for name, part in setting.windows.items()}, "gate_drawn": len(setting.gate)},
        "files": digests(out),
        "tensors": tuned.tensors,
        "parameters": sum(parameter.numel() for parameter in tuned.parameters.values()),
        "learning_rates": sorted(set(tuned.rates.values())),
        "training": {
            "best_step": fitted.best_step,
            "metric": FAMILIES[base.family].stopping_metric,
            "best": fitted.best_score,
            "base": fitted.curve[0][2],
            "stopped_early": fitted.stopped_early,
            "seconds": round(seconds, 1),
            "device": setting.device.type,
        },
    }


def check_folder(out: Path, *, resume: bool) -> None:
    """Make the folder of a run that is about to begin. Raises `TrainError` when something else is there."""
    if not is_empty(out) and not resume:
        raise TrainError(
            f"{out} is not empty", hint="give another --out, or --resume to continue a run that was killed"
        )
    if (out / GROUPS_FILE).exists():
        raise TrainError(
            f"{out} holds runs by group: {GROUPS_FILE}", hint="--group-by continues them; or another --out"
        )
    if (out / RUN_FILE).exists():
        raise TrainError(f"{out} is finished: nothing to resume", hint="give another --out to train again")
    out.mkdir(parents=True, exist_ok=True)
