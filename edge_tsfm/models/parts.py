"""The parts of a base that methods choose from: linear layers by role, biases, tables, norms; dead ones found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.survey import survey, unheard

AHEAD = 8  # of a context's last steps, to be forecast; fewer where a base tells of fewer in a pass

ROLES = {
    "patch": ("hidden_layer", "output_layer", "residual_layer"),
    "q": ("q",),
    "k": ("k",),
    "v": ("v",),
    "o": ("o",),
    "ffn": ("wi", "wo", "wi_0", "wi_1"),
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Names of a base's live parameters, by what they are."""

    linear: dict[str, tuple[str, ...]]  # role → weights of linear layers
    biases: tuple[str, ...]  # of linear layers
    tables: tuple[str, ...]  # relative-position biases
    norms: tuple[str, ...]  # scales
    attention_norms: tuple[str, ...]  # those in front of attention
    dead: tuple[str, ...]  # no effect on any forecast, whatever they hold


def find_parts(model: Any, family: Any) -> Parts:
    """Sort the parameters of ``model`` and leave out those that no forecast hears."""
    dead = find_dead(model, family)
    linear: dict[str, list[str]] = {role: [] for role in ROLES}
    biases, tables, norms = [], [], []
    for name, module in model.named_modules():
        leaf = name.rsplit(".", 1)[-1]
        if isinstance(module, nn.Linear):
            for role, leaves in ROLES.items():
                if leaf in leaves:
                    linear[role].append(f"{name}.weight")
            if module.bias is not None:
                biases.append(f"{name}.bias")
        elif leaf == "relative_attention_bias":
            tables.append(f"{name}.weight")
        elif "layer_norm" in leaf and hasattr(module, "weight"):
            norms.append(f"{name}.weight")

    def live(names: list[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name not in dead)

    return Parts(
        linear={role: live(names) for role, names in linear.items()},
        biases=live(biases),
        tables=live(tables),
        norms=live(norms),
        attention_norms=tuple(
            name for name in live(norms) if _beside_attention(model, name.removesuffix(".layer_norm.weight"))
        ),
        dead=tuple(sorted(dead)),
    )


def _beside_attention(model: Any, block: str) -> bool:
    """Return whether a norm's block is an attention block."""
    try:
        children = dict(model.get_submodule(block).named_children())
    except AttributeError:
        return False
    return bool(children.keys() & {"SelfAttention", "EncDecAttention", "self_attention"})


def find_dead(model: Any, family: Any) -> set[str]:
    """Find parameters that no forecast can hear, whatever they hold: what an export leaves out as well.

    Tested with all weights redrawn at random, like an export (docs/adr/0019), not with the base's own weights, where a
    live tensor behind zeros looks dead, and rounding may make a dead one look alive. Embeddings keep their numbers, for
    no method tunes them: what they leave unheard (a start token of zero) is dead.
    """
    embeddings = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and not name.endswith("relative_attention_bias")
    }
    originals = {
        name: parameter.detach().cpu().numpy().copy()
        for name, parameter in model.named_parameters()
        if id(parameter) not in embeddings
    }

    ahead = min(AHEAD, family.horizon(model))

    def respond(model: Any, context: NDArray[np.float32]) -> Tensor:
        series = torch.from_numpy(context.copy()).to(next(model.parameters()).device)
        outputs: Tensor = family.outputs(model, series[:, :-ahead], series[:, -ahead:])
        return outputs

    return set(unheard(survey(model, respond, originals), list(originals)))
