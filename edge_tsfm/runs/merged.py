"""An adapted model as a plain folder in the Hugging Face layout, for tools that do not support adapters."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from device_runtime.files import write_atomic
from edge_tsfm.errors import TrainError
from edge_tsfm.methods import find_method
from edge_tsfm.methods.merge import merge_into
from edge_tsfm.models import load_base
from edge_tsfm.models.artefact import save_base
from edge_tsfm.models.base import weights_digest
from edge_tsfm.one_writer import is_empty, only_writer
from edge_tsfm.runs.run import Run

ORIGIN_FILE = "edge-tsfm.json"


def save_merged(run: Run, out: Path) -> dict[str, Any]:
    """Write ``run``'s base with its adaptation merged, float32, into the folder ``out``; return what is recorded there.

    The parameters are rounded as a blob ships them (int16), so the folder forecasts what a device forecasts; a method
    that has no blob (``full``) is written as it was trained. The folder is read back and compared before it counts.
    Raises `TrainError` for a folder in use, for added biases, or when the weights do not come back.
    """
    with only_writer(out):
        return _save_merged(run, out)


def _save_merged(run: Run, out: Path) -> dict[str, Any]:
    """Do what `save_merged` says, alone in ``out``."""
    if not is_empty(out):
        raise TrainError(f"{out} is not empty", hint="give another --out")
    own = {name for name, _ in run.base_model.model.named_parameters()}
    if any(name not in own for name in run.record["tensors"]):
        raise TrainError(
            f"{run.path} added biases to layers that have none: a plain folder cannot hold them",
            hint="export it as an adapter, for a bundle with added biases",
        )
    exportable = find_method(run.method).exportable
    model: Any = copy.deepcopy(run.base_model.model) if exportable else run.tuned_model()
    if exportable:
        merge_into(model, run.deltas())
    save_base(model, out, dtype=torch.float32)
    digest = weights_digest(load_base(str(out.resolve())).model)
    if digest != weights_digest(model):
        raise TrainError(f"{out}: read back, the weights are not those that were written")
    record = {
        "base": dict(run.base),
        "method": run.method,
        "target": run.target,
        "rounded": "int16" if exportable else None,
        "weights": digest,
        "data": run.record["data"]["fingerprint"],
        "gate": {key: run.gate[key] for key in ("accepted", "forced", "reason")},
    }
    write_atomic(out / ORIGIN_FILE, (json.dumps(record, indent=2) + "\n").encode())
    return record
