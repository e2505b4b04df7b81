"""The trainers that people use, side by side: ``python -m edge_tsfm.research.side_by_side DATA --target MAP``.

Every way gets the same base, patients, windows, steps, batch and rank, in a process of its own, one after the other:
`edge-tsfm train`'s loop with FourierFT and with LoRA, PEFT with the Hugging Face Trainer, and for a Chronos-2 base the
LoRA of `Chronos2Pipeline.fit`, which draws its windows from the same series by itself. Time, peak memory, and the
score on the gate's validation patients, whom no way has seen. Test patients stay unopened.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from device_runtime.documents import read_json
from edge_tsfm.data import Windows
from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.models import FAMILIES
from edge_tsfm.models.parts import find_parts
from edge_tsfm.progress import Work
from edge_tsfm.runs.prepare import Setting, prepare
from edge_tsfm.runs.run import cut
from edge_tsfm.runs.tuned import tune
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.course import VALIDATION_WINDOWS
from export.threads import threads_for

RANK, ALPHA = 2, 16.0
RATES = {"trainer": 1e-2, "pipeline": 1e-2}  # edge-tsfm's for LoRA, so that no way has a better one


def ours(method: str) -> Callable[[Setting, Path], nn.Module]:
    """Return the training of `edge-tsfm train` with ``method``."""

    def run(setting: Setting, scratch: Path) -> nn.Module:
        asked = replace(setting, config=replace(setting.config, method=method, rank=RANK, alpha=ALPHA))
        return tune(asked, scratch, lambda *_: None, Work()).model

    return run


def trainer(setting: Setting, scratch: Path) -> nn.Module:
    """Train PEFT's LoRA on the same windows with the Trainer of transformers, and keep its best by validation loss."""
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments

    config, base = setting.config, setting.base
    parts = find_parts(base.model, FAMILIES[base.family])
    sites = [name.removesuffix(".weight") for role in ("q", "k", "v", "o") for name in parts.linear[role]]
    model = get_peft_model(base.model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=sites))
    arguments = TrainingArguments(
        output_dir=str(scratch), max_steps=config.steps, per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=4 * config.batch_size, learning_rate=RATES["trainer"], weight_decay=0.0,
        lr_scheduler_type="cosine", warmup_steps=config.warmup_steps, eval_strategy="steps",
        eval_steps=config.evaluate_every, save_steps=config.evaluate_every, load_best_model_at_end=True,
        metric_for_best_model="loss", label_names=[_label(setting)], report_to="none", seed=config.seed,
        disable_tqdm=True, logging_steps=config.steps, use_cpu=not torch.cuda.is_available(), prediction_loss_only=True,
    )  # fmt: skip
    held_out = setting.windows["stopping"].draw(VALIDATION_WINDOWS, config.seed)  # those of edge-tsfm
    train, held_out_rows = (_Rows(setting, some) for some in (setting.windows["train"], held_out))
    Trainer(model=model, args=arguments, train_dataset=train, eval_dataset=held_out_rows).train()
    merged: nn.Module = model.merge_and_unload()
    return merged


def pipeline(setting: Setting, scratch: Path) -> nn.Module:
    """Train with `Chronos2Pipeline.fit`, as its documentation does, at the other ways' rank and learning rate."""
    from chronos import Chronos2Pipeline

    config = setting.config
    series = {part: setting.split.series(setting.dataset.series, part) for part in ("train", "stopping")}
    least = config.min_observed + config.prediction_length
    inputs = {part: [one.target.copy() for one in some if len(one) >= least] for part, some in series.items()}
    fitted = Chronos2Pipeline(setting.base.model).fit(
        inputs["train"], validation_inputs=inputs["stopping"], prediction_length=config.prediction_length,
        finetune_mode="lora", context_length=config.context_length, min_past=config.min_observed,
        lora_config={"r": RANK, "lora_alpha": ALPHA, "target_modules": ["q", "k", "v", "o"]},
        learning_rate=RATES["pipeline"], num_steps=config.steps, batch_size=config.batch_size, output_dir=scratch,
        eval_steps=config.evaluate_every, save_steps=config.evaluate_every, disable_tqdm=True, seed=config.seed,
    )  # fmt: skip
    model: nn.Module = fitted.model
    return model


def frozen(setting: Setting, _: Path) -> nn.Module:
    """Train nothing: what every way starts from."""
    model: nn.Module = setting.base.model
    return model


WAYS: Mapping[str, Callable[[Setting, Path], nn.Module]] = {
    "frozen base": frozen,
    "edge-tsfm, FourierFT": ours("fourierft"),
    "edge-tsfm, LoRA": ours("lora"),
    "PEFT + HF Trainer, LoRA": trainer,
    "Chronos2Pipeline.fit, LoRA": pipeline,
}


def measure(way: str, config: TrainConfig) -> dict[str, Any]:
    """Train one way in this process: seconds, processor seconds, peak memory in MB, WQL and MSE on the gate's patients.

    ``memory`` is of the whole process while it trains, ``before`` of it what libraries, base and data take.
    """
    with tempfile.TemporaryDirectory() as scratch:
        setting = prepare(config, Path(scratch))
        _forget_peak()
        before, begin, busy = _memory("VmRSS"), time.monotonic(), time.process_time()
        with threads_for(setting.base.model):
            model = WAYS[way](setting, Path(scratch))
        seconds, processor = time.monotonic() - begin, time.process_time() - busy
        memory = _memory("VmHWM")
        windows = cut(setting.dataset, setting.split, "gate", config, config.prediction_length)
        return {
            "way": way, "seconds": seconds, "processor": processor, "memory": memory, "before": before,
            **score(model.eval(), setting, windows),
        }  # fmt: skip


def score(model: nn.Module, setting: Setting, windows: Windows) -> dict[str, float]:
    """Return WQL and MSE (of the median) of a model's forecasts of ``windows``."""
    scored = replace(setting, gate=windows)
    quantiles, target = scored.at_the_gate(model), windows.target
    levels = np.array(setting.levels)
    miss = target[..., None] - quantiles  # [N, H, Q]
    pinball = np.maximum(levels * miss, (levels - 1) * miss).mean(-1)
    median = quantiles[..., int(np.abs(levels - 0.5).argmin())]
    return {
        "wql": float(2 * np.nansum(pinball) / np.nansum(np.abs(target))),
        "mse": float(np.nanmean((target - median) ** 2)),
    }


class _Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Windows as the arguments of a Chronos model's forward pass, which returns its own loss."""

    def __init__(self, setting: Setting, windows: Windows) -> None:
        self._windows, self._label = windows, _label(setting)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        pair = self._windows.context[place], self._windows.target[place]
        return dict(zip(("context", self._label), map(torch.from_numpy, pair), strict=True))


def _label(setting: Setting) -> str:
    """Return the argument that a family's model takes targets as."""
    labels = {"chronos-bolt": "target", "chronos-2": "future_target"}
    if setting.base.family not in labels:
        raise ConfigError(f"side by side: {setting.base.family} has no loss of a window", hint="a Chronos-Bolt or -2")
    return labels[setting.base.family]


def _memory(of: str) -> float:
    """Return this process's resident size in MB: ``VmRSS`` now, ``VmHWM`` its largest since `_forget_peak` (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{of}:")) / 1024


def _forget_peak() -> None:
    """Begin `_memory` of the largest size anew: reading the data needs more than any training."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Measure every way in a process of its own and print a table, or JSON."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data")
    asked.add_argument("--target", required=True)
    asked.add_argument("--base", default="edge-bolt-micro")
    asked.add_argument("--steps", type=int, default=300)
    asked.add_argument("--batch-size", type=int, default=64)
    asked.add_argument("--n-frequency", type=int, help="FourierFT's parameters on each site")
    asked.add_argument("--json", action="store_true")
    asked.add_argument("--way", choices=list(WAYS), help="only this one, in this process")
    asked.add_argument("--to", type=Path, help="file for the measurements of --way")
    given = asked.parse_args()
    config = TrainConfig(
        data=given.data, target=given.target, base=given.base, steps=given.steps, batch_size=given.batch_size,
        n_frequency=given.n_frequency, evaluate_every=max(1, given.steps // 6), patience=6,
    )  # fmt: skip
    if given.way:
        given.to.write_text(json.dumps(measure(given.way, config)))
        return
    found = [_alone(way, sys.argv[1:]) for way in WAYS if way != "Chronos2Pipeline.fit, LoRA" or _is_chronos2(config)]
    sys.stdout.write(json.dumps(found) + "\n" if given.json else _table(found))


def _is_chronos2(config: TrainConfig) -> bool:
    from edge_tsfm.models import load_base

    return load_base(config.base).family == "chronos-2"


def _alone(way: str, arguments: list[str]) -> dict[str, Any]:
    """Measure one way in a new process."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "measured.json"
        own = ["--way", way, "--to", str(path)]
        command = [sys.executable, "-m", "edge_tsfm.research.side_by_side", *arguments, *own]
        subprocess.run(command, stdout=sys.stderr, check=True)
        measured: dict[str, Any] = read_json(path, error=TrainError)
        return measured


def _table(found: list[dict[str, Any]]) -> str:
    """Write the measurements as Markdown, each score with its change against the frozen base."""
    base = found[0]
    lines = ["| | seconds | processor s | peak MB (of it training) | WQL | MSE |", "|---|--:|--:|--:|--:|--:|"]
    for one in found:
        scores = " | ".join(f"{one[key]:.4g} ({one[key] / base[key] - 1:+.2%})" for key in ("wql", "mse"))
        memory = f"{one['memory']:.0f} ({one['memory'] - one['before']:.0f})"
        lines.append(f"| {one['way']} | {one['seconds']:.1f} | {one['processor']:.1f} | {memory} | {scores} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
