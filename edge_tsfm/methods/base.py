"""The interface of a tuning method, which is one small file."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from device_runtime.format.delta import Delta, Dtype
from device_runtime.nearest import did_you_mean
from edge_tsfm.errors import ConfigError
from edge_tsfm.models.family import FAMILIES, family_of
from edge_tsfm.models.parts import Parts, find_parts
from edge_tsfm.options import Options

ADAPTER = "default"  # PEFT's name for its one adapter


class Method(Protocol):
    """Freezes a base, makes a few parameters trainable, and says afterwards what they add to which tensor."""

    name: str
    learning_rate: float
    exportable: bool

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Make the method's parameters trainable in ``model``, in place; return the tensors it touches.

        ``parts`` are the untouched base's: attaching renames layers. Afterwards the forecast is the base's. Raises
        `ConfigError` when nothing is selected.
        """

    def owns(self, name: str) -> bool:
        """Return whether a trainable parameter, by its name after attaching, is this method's."""

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Return what training added: the base's parameter name → delta."""


def attach(model: Any, method: Method, options: Options) -> list[str]:
    """Sort the parameters of a base's ``model`` and attach ``method`` to it; see `Method.attach`."""
    return method.attach(model, find_parts(model, FAMILIES[family_of(model)]), options)


def linear_sites(parts: Parts, roles: tuple[str, ...], method: str) -> list[str]:
    """Return the live linear weights of ``roles``. Raises `ConfigError` for an unknown role or an empty selection."""
    unknown = [role for role in roles if role not in parts.linear]
    if unknown:
        raise ConfigError(
            f"{method}: no role {unknown[0]!r}",
            hint=f"{did_you_mean(unknown[0], parts.linear)}roles: {', '.join(parts.linear)}",
        )
    return selected([name for role in roles for name in parts.linear[role]], method)


def selected(names: list[str], method: str) -> list[str]:
    """Refuse an empty selection: a run that tunes nothing must not look like one that did."""
    if not names:
        raise ConfigError(
            f"{method} selects nothing in this base: it has no such live tensor", hint="choose another method"
        )
    return names


def modules(names: list[str]) -> list[str]:
    """Turn weights' names into their modules', which is what PEFT targets."""
    return [name.removesuffix(".weight") for name in names]
