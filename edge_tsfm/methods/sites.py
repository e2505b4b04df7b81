"""Which tensors a method would change, without training it: a bundle in int8 must keep them in float32."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from edge_tsfm.errors import ConfigError
from edge_tsfm.methods import find_method
from edge_tsfm.methods.base import selected
from edge_tsfm.models.family import FAMILIES, family_of
from edge_tsfm.models.parts import find_parts
from edge_tsfm.options import Options

DEFAULT = ("fourierft", "bitfit", "norms")
PATTERN = frozenset("*?.")  # a method's name has none of these


def kept_tensors(model: nn.Module, keep: str | None) -> list[str]:
    """Name the tensors of `touched_tensors` for a command's ``--keep``, between commas; None: `DEFAULT`."""
    return touched_tensors(model, [one.strip() for one in keep.split(",")] if keep else DEFAULT)


def touched_tensors(model: nn.Module, wanted: Sequence[str]) -> list[str]:
    """Name the live tensors of a base that ``wanted`` covers, sorted.

    Each of ``wanted`` is a method (``bitfit``, ``lora``), a method and its preset (``fourierft/qv100``) or a pattern
    of tensor names (``*.v.weight``). Raises `ConfigError` for an unknown one, and for one that selects nothing.
    """
    parts = find_parts(model, FAMILIES[family_of(model)])
    names: set[str] = set()
    for one in wanted:
        if PATTERN & set(one):
            live = (name for name, _ in model.named_parameters() if name not in parts.dead)
            names.update(selected([name for name in live if fnmatchcase(name, one)], one))
            continue
        method, _, preset = one.partition("/")
        if preset and method != "fourierft":
            raise ConfigError(f"{method} has no presets", hint="fourierft has: fourierft/qv100")
        # One frequency fits any site; how many there are does not change which sites.
        options = Options(preset=preset or None, n_frequency=1)
        names.update(find_method(method).attach(copy.deepcopy(model), parts, options))
    return sorted(names)
