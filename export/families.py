"""What each model family gives the exporter: one module for each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from export import bolt, chronos2, t5
from export.errors import ExportError
from export.family import FamilyExport, FloatArray

FAMILIES: Mapping[str, FamilyExport] = MappingProxyType(
    {family.name: family for family in (bolt.FAMILY, t5.FAMILY, chronos2.FAMILY)}
)


def find_family(name: str) -> FamilyExport:
    """Return a family's record. Raises `ExportError` for one without an exporter."""
    if name not in FAMILIES:
        raise ExportError(f"no exporter for family {name!r}", hint=f"known: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def torch_witness(family: str, model: Any, context: FloatArray) -> FloatArray:
    """Return what the weights decide without chance: contexts ``[B, L]`` to ``[B, H, K]``, in their unit."""
    with torch.no_grad():
        return find_family(family).witness(model, context)
