"""Write a pre-trained base as chronos-forecasting reads it: config.json and model.safetensors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from device_runtime.files import write_atomic


def save_base(model: Any, folder: Path | None, *, dtype: torch.dtype = torch.float16) -> str:
    """Write the model's weights, each stored once, and its configuration.

    Args:
        model: a Chronos-Bolt or Chronos-T5 model.
        folder: created when missing; None writes nothing and only computes the digest.
        dtype: of the stored weights; float16 halves the file and moves forecasts by about 1e-3 of the scale.

    Returns:
        SHA-256 of ``model.safetensors``, hex.
    """
    weights = save(_stored_once(model, dtype), metadata={"format": "pt"})
    config = model.config.to_diff_dict() | {"torch_dtype": "float32"}  # as trained; the file's float16 is widened
    for key in ("_name_or_path", "dtype"):
        config.pop(key, None)
    digest = hashlib.sha256(weights).hexdigest()
    if folder is None:
        return digest
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "model.safetensors", weights)
    write_atomic(folder / "config.json", (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
    return digest


def _stored_once(model: nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Parameters by name; a table shared by several modules only under its first name, as `save_pretrained`
    does.
    """
    return {name: p.detach().to("cpu", dtype).contiguous() for name, p in model.named_parameters()}
