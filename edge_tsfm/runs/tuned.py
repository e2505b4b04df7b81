"""From a setting to a tuned model, and from that to the files of its run."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from device_runtime.files import write_atomic
from edge_tsfm.methods import attach, find_method, learning_rates
from edge_tsfm.methods.base import Method
from edge_tsfm.methods.entries import Entries
from edge_tsfm.models import FAMILIES, Base
from edge_tsfm.progress import Work
from edge_tsfm.runs.peft_form import save_peft_form
from edge_tsfm.runs.prepare import Setting
from edge_tsfm.runs.run import CHECKPOINT_FILE, PARAMETERS_FILE, PEFT_FOLDER
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.course import Fit, Report
from edge_tsfm.training.curves import CURVE_FILE, curve_csv, draw_curve
from edge_tsfm.training.loop import fit
from export.threads import threads_for


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A model with its best parameters, and how it came to them."""

    model: nn.Module
    method: Method
    tensors: list[str]  # that the method touches
    rates: dict[str, float]  # peak learning rate of each parameter
    fit: Fit

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The trained parameters by name."""
        return {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}


@dataclass(frozen=True, kw_only=True)
class Attached:
    """A copy of a base with a method's parameters, as they begin."""

    model: nn.Module
    method: Method
    tensors: list[str]  # that the method touches
    rates: dict[str, float]  # peak learning rate of each parameter

    def with_fit(self, fitted: Fit) -> Tuned:
        """Return it once its parameters are the best that ``fitted`` tells of."""
        return Tuned(model=self.model, method=self.method, tensors=self.tensors, rates=self.rates, fit=fitted)


def attach_to(base: Base, config: TrainConfig, entries: Entries | None) -> Attached:
    """Attach the method of ``config`` to a copy of ``base``; what it begins with by chance is the seed's alone."""
    torch.manual_seed(config.seed)
    method = find_method(config.method, entries)
    model = copy.deepcopy(base.model)
    tensors = attach(model, method, config.options)
    own = learning_rates(model, method, config.learning_rate)
    rates = {name: rate * config.learning_rate_factor for name, rate in own.items()}
    return Attached(model=model, method=method, tensors=tensors, rates=rates)


def tune(setting: Setting, out: Path, report: Report, work: Work) -> Tuned:
    """Attach the method to a copy of the base and train it; a state of the same run in ``out`` is continued."""
    attached = attach_to(setting.base, setting.config, setting.entries)
    with threads_for(attached.model):
        fitted = fit(
            attached.model.to(setting.device),
            FAMILIES[setting.base.family],
            setting.windows["train"],
            setting.windows["stopping"],
            setting.config,
            rates=attached.rates,
            checkpoint=out / CHECKPOINT_FILE,
            identity=setting.identity,
            report=report,
            work=work,
        )
    return attached.with_fit(fitted)


def write_tuned(setting: Setting, tuned: Tuned, out: Path) -> None:
    """Write parameters, curves and, of a method that can be exported, the PEFT checkpoint. Models go to the CPU."""
    from safetensors.torch import save

    tuned.model.cpu()
    base = setting.base.model.cpu()
    parameters = {name: value.contiguous() for name, value in tuned.parameters.items()}
    write_atomic(out / PARAMETERS_FILE, save(parameters))
    metric = FAMILIES[setting.base.family].stopping_metric
    write_atomic(out / CURVE_FILE, curve_csv(tuned.fit.curve))
    write_atomic(out / "curves.png", draw_curve(tuned.fit.curve, tuned.fit.best_step, metric=metric))
    if tuned.method.exportable:
        deltas = tuned.method.deltas(tuned.model, setting.config.options, "int16")
        save_peft_form(base, _changes(deltas, base), out / PEFT_FOLDER, base_name=setting.config.base)


def _changes(deltas: dict[str, Any], base: nn.Module) -> dict[str, torch.Tensor]:
    """Evaluate deltas as torch tensors in their parameters' shapes; a parameter the base lacks is an added bias."""
    parameters = dict(base.named_parameters())
    changes = {}
    for name, delta in deltas.items():
        weights = parameters[name].detach().cpu().numpy() if name in parameters else np.zeros(delta.shape[0])
        added = delta.dense(weights.astype(np.float64).reshape(delta.shape))
        changes[name] = torch.from_numpy(added.reshape(weights.shape))
    return changes
