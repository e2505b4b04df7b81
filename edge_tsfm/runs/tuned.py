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
from edge_tsfm.models import FAMILIES
from edge_tsfm.progress import Work
from edge_tsfm.runs.peft_form import save_peft_form
from edge_tsfm.runs.prepare import Setting
from edge_tsfm.runs.run import CHECKPOINT_FILE, PARAMETERS_FILE, PEFT_FOLDER
from edge_tsfm.training.curves import CURVE_FILE, curve_csv, draw_curve
from edge_tsfm.training.loop import Fit, Report, fit
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


def tune(setting: Setting, out: Path, report: Report, work: Work) -> Tuned:
    """Attach the method to a copy of the base and train it; a state of the same run in ``out`` is continued."""
    config, base = setting.config, setting.base
    method = find_method(config.method, setting.entries)
    model = copy.deepcopy(base.model)
    tensors = attach(model, method, config.options)
    own = learning_rates(model, method, config.learning_rate)
    rates = {name: rate * config.learning_rate_factor for name, rate in own.items()}
    with threads_for(model):
        fitted = fit(
            model.to(setting.device),
            FAMILIES[base.family],
            setting.windows["train"],
            setting.windows["stopping"],
            config,
            rates=rates,
            checkpoint=out / CHECKPOINT_FILE,
            identity={"configuration": config.to_dict(), "data": setting.dataset.fingerprint, "base": base.digest},
            report=report,
            work=work,
        )
    return Tuned(model=model, method=method, tensors=tensors, rates=rates, fit=fitted)


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
