"""A run's result as a checkpoint that plain PEFT opens, whatever the method.

PEFT does not save FourierFT's entries and draws its own when it loads (a FourierFT checkpoint would silently forecast
something else), and it has no BitFit. So a run's ``peft/`` folder is an equivalent LoRA checkpoint:
linear weights as the factors of their change (by singular values, exact to float32), biases as PEFT's
``bias="all"``, position tables and norms in ``modules_to_save``. A bias that the base has no place for becomes the
bias of its layer's second factor (``lora_bias``): PEFT opens it and forecasts the same, and refuses to merge it.
``tuned.safetensors`` beside it keeps the method's own few parameters.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_tsfm.errors import TrainError
from edge_tsfm.methods.base import ADAPTER

# Of the largest singular value: one rounding of float32. The factors are stored in float32, which moves the largest
# component by as much, so what is smaller would be stored beside an error of its own size. (Changes come in float64, in
# which an exact low rank shows to 1e-13.)
NOISE = 2.0**-24
READABLE = 0o644  # as `write_atomic` leaves a file; safetensors makes one that only its owner can read


def save_peft_form(base: nn.Module, changes: Mapping[str, torch.Tensor], folder: Path, *, base_name: str) -> None:
    """Write ``changes`` (parameter name → what was added) to ``base`` as a PEFT checkpoint in ``folder``.

    Raises `TrainError` where it cannot be written.
    """
    from peft import LoraConfig, get_peft_model
    from safetensors import SafetensorError

    model = copy.deepcopy(base)
    linear = {name.removesuffix(".weight") for name in changes if _is_linear_weight(model, name)}
    own = {name for name, _ in model.named_parameters()}
    added = {name.removesuffix(".bias") for name in changes if name not in own}
    rest = {name for name in changes if name in own and name.removesuffix(".weight") not in linear}
    whole = {name.removesuffix(".weight") for name in rest if name.endswith(".weight")}
    factors = {module: _factors(changes[f"{module}.weight"]) for module in linear}
    ranks = {f"^{module}$": a.shape[0] for module, (a, _) in factors.items()}
    config = LoraConfig(
        r=1,
        lora_alpha=1,
        target_modules=sorted(linear | added) or [_any_linear(model)],
        rank_pattern=ranks,
        alpha_pattern=ranks,
        bias="all" if any(name.endswith(".bias") for name in rest) else "none",
        lora_bias=bool(added),
        modules_to_save=sorted(whole) or None,
    )
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in rest:
            parameters[name].add_(changes[name].to(parameters[name].dtype))
    with _unheard("lora_bias=True"):
        wrapped: Any = get_peft_model(model, config)
    with torch.no_grad():
        for name, layer in wrapped.base_model.model.named_modules():
            if name in factors:
                layer.lora_A[ADAPTER].weight.copy_(factors[name][0])
                layer.lora_B[ADAPTER].weight.copy_(factors[name][1])
            if name in added:
                layer.lora_B[ADAPTER].bias.copy_(changes[f"{name}.bias"])
    wrapped.peft_config[ADAPTER].base_model_name_or_path = base_name
    # "auto" would ask the hub whether the base's vocabulary grew; a time series has none.
    with _unheard("LoRA tensor.* have invalid shape"):
        try:
            wrapped.save_pretrained(str(folder), save_embedding_layers=False)
        except (OSError, SafetensorError) as error:  # the latter is what it makes of the former
            raise TrainError(f"cannot write {folder}: {error}", hint="check space and permissions") from error
    for path in folder.iterdir():
        path.chmod(READABLE)


@contextmanager
def _unheard(pattern: str) -> Iterator[None]:
    """Keep back PEFT's warnings about a second factor's bias: that it cannot be merged, and that it is a vector."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f"(?s).*{pattern}")
        yield


def _is_linear_weight(model: nn.Module, name: str) -> bool:
    """Return whether a parameter is the weight of a linear layer."""
    return name.endswith(".weight") and isinstance(model.get_submodule(name.removesuffix(".weight")), nn.Linear)


def _factors(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor a change exactly: ``A`` ``[r, in]`` and ``B`` ``[out, r]`` with ``B A`` equal to it."""
    u, s, v = torch.linalg.svd(change.double(), full_matrices=False)
    rank = max(1, int((s > NOISE * s[0]).sum()))
    root = s[:rank].sqrt()
    return (root[:, None] * v[:rank]).float(), (u[:, :rank] * root).float()


def _any_linear(model: nn.Module) -> str:
    """Name a linear layer to hang PEFT's obligatory target on; its factors stay zero."""
    first: str = next(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return first
