"""Continued pre-training with few parameters: a base's broad corpus, an adapter's parameters.

Whether tuning few parameters pays before any ward is seen is the question the FourierFT paper on Chronos left
open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_tsfm.errors import ConfigError
from edge_tsfm.research.pretraining.build import build_model
from edge_tsfm.research.pretraining.config import PretrainConfig

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Continued:
    """Continue from ``base`` (a bundled name, a folder or a hub id), tuning everything or what ``method``
    attaches.
    """

    base: str
    method: str | None = None
    selection: tuple[str, ...] | None = None


def start(config: PretrainConfig, continued: Continued | None) -> nn.Module:
    """Build a new model, or open the base and attach the method: what `requires_grad` is what learns.

    Raises:
        ConfigError: there is no such method, or the base is of another family than the configuration.
        ModelError: the base cannot be opened.
    """
    if continued is None:
        return build_model(config)
    from edge_tsfm.models import load_base

    base = load_base(continued.base)
    if base.family != config.family:
        raise ConfigError(f"{continued.base} is a {base.family}, the configuration is for {config.family}")
    model: nn.Module = base.model
    if continued.method is None:
        return model.requires_grad_(True)
    from edge_tsfm.methods import Options, attach, find_method

    attach(model, find_method(continued.method), Options(target_modules=continued.selection))
    return model


def finish(config: PretrainConfig, continued: Continued | None, tuned: nn.Module) -> nn.Module:
    """Merge what a method tuned into a fresh copy of its base, exactly as a device would."""
    if continued is None or continued.method is None:
        return tuned
    from edge_tsfm.methods import Options, find_method
    from edge_tsfm.methods.merge import merge_into
    from edge_tsfm.models import load_base

    merged: nn.Module = load_base(continued.base).model
    merge_into(
        merged, find_method(continued.method).deltas(tuned, Options(target_modules=continued.selection), "int16")
    )
    return merged
