"""One pre-training run from a configuration to a base that `from_pretrained` opens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from device_runtime.files import write_atomic
from edge_tsfm.errors import ConfigError
from edge_tsfm.models.artefact import save_base
from edge_tsfm.one_writer import only_writer
from edge_tsfm.research.pretraining.checkpoint import Progress
from edge_tsfm.research.pretraining.config import PretrainConfig
from edge_tsfm.research.pretraining.curves import write_csv, write_png
from edge_tsfm.research.pretraining.few import Continued, finish, start
from edge_tsfm.research.pretraining.loop import train
from edge_tsfm.research.pretraining.ranks import ranks_of_launcher
from edge_tsfm.research.pretraining.validation import patients, synthetic_loss, zero_shot

_COUNTED = {"step", "series", "seconds"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run left behind."""

    folder: Path
    digest: str
    trainable: int
    progress: Progress

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        return {
            "folder": str(self.folder),
            "model_sha256": self.digest,
            "trainable_parameters": self.trainable,
            "steps": self.progress.step,
            "series": self.progress.series,
            "seconds": round(self.progress.seconds, 1),
            **{
                key: value for key, value in self.progress.curve[-1].items() if key not in {"step", "series", "seconds"}
            },
        }


def pretrain(
    config: PretrainConfig,
    out: Path,
    *,
    continued: Continued | None = None,
    validate_on: Path | None = None,
    targets: Sequence[str] = (),
    validation_windows: int = 1000,
    resume: bool = True,
    device: str | None = None,
    on_log: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Run to the end, or on from the last checkpoint in ``out``.

    Writes ``checkpoint.pt``, ``curve.csv``, ``curve.png``, ``snapshots/STEP/`` (averaged weights at every
    save), the finished base in ``base/`` and ``report.json``; with a method that base is the one it
    continued, merged.

    Raises:
        ConfigError, DataError, ModelError, TrainError: as their names say; nothing is trained on real data.
        InUseError: another process pre-trains in ``out``.
    """
    if validate_on is not None and not targets:
        raise ConfigError("validation on real data needs at least one target", hint="--target MAP")
    ranks = ranks_of_launcher()
    if config.threads:
        torch.set_num_threads(config.threads)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if ranks.accelerator is not None:
        place = ranks.accelerator.device
    out.mkdir(parents=True, exist_ok=True)
    with only_writer(out) if ranks.rank == 0 else nullcontext():
        model = start(config, continued).to(place)
        sets = [patients(validate_on, name, limit=validation_windows) for name in targets] if validate_on else []

        def watch(averaged: nn.Module, progress: Progress) -> dict[str, float]:
            if continued is None:
                save_base(averaged, out / "snapshots" / f"{progress.step:07d}")
            row = {"synthetic_loss": synthetic_loss(averaged, config, place)}
            return row | zero_shot(averaged, sets) if sets else row

        def log(progress: Progress) -> None:
            write_csv(progress.curve, out / "curve.csv")
            if on_log is not None:
                on_log(progress)

        record = config.to_dict() | {"method": None if continued is None else vars(continued)}
        progress = train(
            model, config, out, device=place, resume=resume, record=record, watch=watch, on_log=log, ranks=ranks
        )
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        merged = finish(config, continued, model)
        # Every process holds the same weights; the first one writes them.
        digest = save_base(merged, out / "base" if ranks.rank == 0 else None)
        outcome = Outcome(folder=out, digest=digest, trainable=trainable, progress=progress)
        if ranks.rank != 0:
            return outcome
        write_png(progress.curve, out / "curve.png", title=config.name)
        write_atomic(out / "report.json", (json.dumps(outcome.to_dict(), indent=2) + "\n").encode())
        return outcome
