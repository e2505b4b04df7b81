"""Several methods at once: ``bitfit+fourierft``. Their tensors must not overlap, as a blob's may not."""

from __future__ import annotations

from torch import nn

from device_runtime.format.delta import Delta, Dtype
from edge_tsfm.errors import ConfigError
from edge_tsfm.methods.base import Method
from edge_tsfm.models.parts import Parts
from edge_tsfm.options import Options


class Combination:
    """Attaches native methods first, then those that wrap layers."""

    def __init__(self, members: tuple[Method, ...]) -> None:
        self.members = members
        self.name = "+".join(member.name for member in members)
        self.learning_rate = max(
            member.learning_rate for member in members
        )  # each member trains at its own, by `learning_rates`
        self.exportable = all(member.exportable for member in members)

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Attach every member; refuse two that would tune one tensor."""
        names: list[str] = []
        trainable: list[nn.Parameter] = []
        for member in self.members:
            touched = member.attach(model, parts, options)
            twice = set(touched) & set(names)
            if twice:
                raise ConfigError(f"{self.name}: {sorted(twice)[0]} would be tuned twice", hint="choose other sites")
            names += touched
            # PEFT freezes whatever is not its own when it wraps layers.
            trainable += [parameter for parameter in model.parameters() if parameter.requires_grad]
            for parameter in trainable:
                parameter.requires_grad_(True)
        return names

    def owns(self, name: str) -> bool:
        """Return whether a member does."""
        return any(member.owns(name) for member in self.members)

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Collect every member's deltas."""
        return {name: delta for member in self.members for name, delta in member.deltas(model, options, dtype).items()}
