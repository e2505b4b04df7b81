"""Parameter-efficient tuning methods: one small file each, one dict to find them."""

from torch import nn

from device_runtime.nearest import did_you_mean
from edge_tsfm.errors import ConfigError
from edge_tsfm.methods.base import Method, attach
from edge_tsfm.methods.combination import Combination
from edge_tsfm.methods.entries import Entries
from edge_tsfm.methods.fourierft import FourierFT
from edge_tsfm.methods.ia3 import IA3
from edge_tsfm.methods.lora import Lora
from edge_tsfm.methods.native import BitFit, Full, Norms
from edge_tsfm.methods.vera import VeraMethod
from edge_tsfm.models.family import FAMILIES, family_of
from edge_tsfm.options import Options

METHODS: dict[str, Method] = {
    method.name: method for method in (BitFit(), Norms(), FourierFT(), VeraMethod(), Lora(), IA3(), Full())
}


def find_method(name: str, entries: Entries | None = None) -> Method:
    """Return a method by name; ``a+b`` combines; ``entries`` are those that a run chose for its FourierFT sites.

    Raises `ConfigError` for an unknown name.
    """
    members = name.split("+")
    unknown = [member for member in members if member not in METHODS]
    if unknown or len(set(members)) != len(members) or ("full" in members and len(members) > 1):
        raise ConfigError(
            f"no method {name!r}",
            hint=f"{did_you_mean(unknown[0], METHODS) if unknown else ''}methods: {', '.join(METHODS)}; combine "
            "different ones with +, but not full",
        )
    known = METHODS if entries is None else {**METHODS, FourierFT.name: FourierFT(entries)}
    if len(members) == 1:
        return known[name]
    # Native parameters are found by their names, which wrapped layers change: native methods go first.
    order = sorted(members, key=list(METHODS).index)
    return Combination(tuple(known[member] for member in order))


def learning_rates(model: nn.Module, method: Method, given: float | None) -> dict[str, float]:
    """Return the peak learning rate of each trainable parameter: ``given``, or that of the method that owns it."""
    members = method.members if isinstance(method, Combination) else (method,)
    of_family = FAMILIES[family_of(model)].rates
    return {
        name: given or next(of_family.get(member.name, member.learning_rate) for member in members if member.owns(name))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


__all__ = ["METHODS", "Method", "Options", "attach", "find_method", "learning_rates"]
