"""Zero biases on linear layers that have none: parameters for BitFit in families that have hardly any biases."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from edge_tsfm.errors import ConfigError
from edge_tsfm.models.base import Base
from edge_tsfm.models.family import FAMILIES, family_of
from edge_tsfm.models.parts import Parts, find_dead, find_parts


def add_biases(model: Any, parts: Parts, roles: Sequence[str] | None = None) -> list[str]:
    """Give the live linear layers of ``roles`` (default: all) a zero bias where they have none, in place.

    Returns the biases' names. One that cannot matter is left away: softmax does not see what a key's bias adds to every
    score alike, unless positions turn the keys. Raises `ConfigError` for an unknown role or when nothing is added.
    """
    chosen = tuple(roles or parts.linear)
    unknown = [role for role in chosen if role not in parts.linear]
    if unknown:
        raise ConfigError(f"added biases: no role {unknown[0]!r}", hint=f"roles: {', '.join(parts.linear)}")
    layers = [name.removesuffix(".weight") for role in chosen for name in parts.linear[role]]
    bare = [f"{layer}.bias" for layer in layers if model.get_submodule(layer).bias is None]
    put_biases(model, bare)
    dead = find_dead(model, FAMILIES[family_of(model)])
    for name in dead.intersection(bare):
        model.get_submodule(name.removesuffix(".bias")).bias = None
    added = [name for name in bare if name not in dead]
    if not added:
        raise ConfigError(
            f"added biases: no live layer of {', '.join(chosen)} is without one",
            hint="choose other --target-modules, or --biases native",
        )
    return added


def put_biases(model: Any, names: Iterable[str]) -> None:
    """Give the linear layers of biases ``names`` a zero one, in place."""
    for name in names:
        layer: Any = model.get_submodule(name.removesuffix(".bias"))
        zeros = torch.zeros(layer.out_features, dtype=layer.weight.dtype, device=layer.weight.device)
        layer.bias = nn.Parameter(zeros, requires_grad=False)


def with_added_biases(base: Base) -> Base:
    """Return a base with every bias that can be added, all zero: the same function, with room for more adapters."""
    model = copy.deepcopy(base.model)
    add_biases(model, find_parts(model, FAMILIES[base.family]))
    return replace(base, model=model)
