"""Methods that tune parameters the base already has: BitFit, norm scales, everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from device_runtime.format.delta import Delta, Dense, Dtype, Numbers
from edge_tsfm.errors import TrainError
from edge_tsfm.methods.base import selected
from edge_tsfm.models.biases import add_biases
from edge_tsfm.models.parts import Parts
from edge_tsfm.options import Options

START = "edge_tsfm_start"  # attribute of a tuned module: its parameters as they were


class _Native:
    """Trains chosen parameters in place and remembers where they started."""

    name = ""
    learning_rate = 0.0
    exportable = True

    def names(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Choose the parameters."""
        raise NotImplementedError

    def owns(self, name: str) -> bool:
        """Return whether a parameter is of the chosen kind."""
        raise NotImplementedError

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Mark the chosen parameters as trainable."""
        names = selected(self.names(model, parts, options), self.name)
        parameters = dict(model.named_parameters())
        start: dict[str, Any] = getattr(model, START, {})
        for name in names:
            parameters[name].requires_grad_(True)
            start[name] = parameters[name].detach().clone()
        setattr(model, START, start)
        return names

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Return the differences from the start."""
        out: dict[str, Delta] = {}
        parameters = {name.replace(".base_layer.", "."): value for name, value in model.named_parameters()}
        for name, start in getattr(model, START).items():
            moved = (parameters[name].detach() - start).double().cpu().numpy()
            out[name] = Dense(Numbers.of(moved.reshape(moved.shape[0], -1), dtype))
        return out


class BitFit(_Native):
    """BitFit (Zaken et al. 2021, arXiv 2106.10199): native biases and relative-position tables.

    A T5 stack has no other bias than those tables: 256 parameters on chronos-t5-tiny. With ``biases="added"`` linear
    layers without a bias, of the roles in ``target_modules``, get one that starts at zero.
    """

    name = "bitfit"
    learning_rate = 6e-2

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Add the biases that the options ask for and mark all as trainable."""
        if options.biases == "added":
            added = add_biases(model, parts, options.target_modules)
            parts = replace(parts, biases=(*parts.biases, *added))
        return super().attach(model, parts, options)

    def names(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Choose every live bias and table."""
        return [*parts.biases, *parts.tables]

    def owns(self, name: str) -> bool:
        """Biases and tables have it in their names."""
        return "bias" in name


class Norms(_Native):
    """Norm tuning: the scales of all norms, or of those in front of attention."""

    name = "norms"
    learning_rate = 3e-2

    def names(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Choose the scales."""
        return list(parts.attention_norms if options.norms == "attention" else parts.norms)

    def owns(self, name: str) -> bool:
        """Norms are called so."""
        return "layer_norm" in name


class Full(_Native):
    """Full fine-tuning: the upper reference. Its result is another base, not an adapter."""

    name = "full"
    learning_rate = 1.5e-3
    exportable = False

    def names(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Choose every live parameter."""
        dead = set(parts.dead)
        return [name for name, _ in model.named_parameters() if name not in dead]

    def owns(self, name: str) -> bool:
        """Every parameter is its own."""
        return True

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Refuse: there is no small difference to ship."""
        raise TrainError(
            "full fine-tuning cannot be exported as an adapter: it changes every parameter of the base",
            hint="use it as a reference; train fourierft or bitfit to deploy",
        )
