"""The parts of a base that methods choose from: linear layers by role, biases, tables, norms; dead ones found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

ROUNDING = 1e-5  # what float32 may leave of nothing, relative to the largest of its kind

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
    dead: tuple[str, ...]  # no gradient and no effect on any forecast


def find_parts(model: Any, family: Any) -> Parts:
    """Sort the parameters of ``model`` and leave out the dead ones, found by gradient and by effect."""
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
    """Say whether a norm's block is an attention block."""
    try:
        children = dict(model.get_submodule(block).named_children())
    except AttributeError:
        return False
    return bool(children.keys() & {"SelfAttention", "EncDecAttention", "self_attention"})


def find_dead(model: Any, family: Any) -> set[str]:
    """Find parameters that cannot matter: zero gradient on synthetic windows *and* no effect when perturbed.

    Both are asked, because a gradient can vanish at one point only, and an effect can be too small to see.
    """
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(4, 64, generator=generator).cumsum(-1)
    context[0, :20] = float("nan")
    target = context[:, -1:] + torch.randn(4, 8, generator=generator)
    names = dict(model.named_parameters())
    kept = {name: parameter.requires_grad for name, parameter in names.items()}
    try:
        model.requires_grad_(True)
        loss = family.loss(model, context, target)
        gradients = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    finally:
        for name, parameter in names.items():
            parameter.requires_grad_(kept[name])
    slopes = {name: 0.0 if g is None else float(g.abs().max()) for name, g in zip(names, gradients, strict=True)}
    # Not zero to the bit: fused attention leaves rounding where the mathematics cancels.
    silent = [name for name, slope in slopes.items() if slope <= ROUNDING * max(slopes.values())]
    with torch.no_grad():
        reference = family.outputs(model, context, target)
        dead = set()
        for name in silent:
            original = names[name].detach().clone()
            names[name].add_(torch.randn(original.shape, generator=generator) * (original.square().mean().sqrt() + 0.1))
            moved = (family.outputs(model, context, target) - reference).abs().max()
            names[name].copy_(original)
            if moved <= ROUNDING * reference.abs().max():
                dead.add(name)
    return dead
