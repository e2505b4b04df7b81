"""(IA)³ (Liu et al. 2022, arXiv 2205.05638) through PEFT: a factor for each output, or each input, of a layer."""

from __future__ import annotations

from torch import nn

from device_runtime.format.delta import Delta, Dtype, Gain, Numbers
from edge_tsfm.methods.base import ADAPTER, linear_sites, modules, selected
from edge_tsfm.models.parts import Parts
from edge_tsfm.options import Options

ROLES = ("k", "v", "ffn")  # as in the paper, whose third factor lies between a feed-forward block's two layers
FIRST_LAYERS = ("wi", "wi_0", "wi_1")


class IA3:
    """Factors that start at 1: on a layer's outputs, or on its inputs where a bias or a feed-forward block ends in it.

    So no bias is multiplied. A feed-forward block's first layers are left alone: a factor on their outputs does what
    one on the last layer's inputs does.
    """

    name = "ia3"
    learning_rate = 3e-2
    exportable = True

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Put PEFT's layers around the chosen sites."""
        from peft import IA3Config, inject_adapter_in_model

        names = linear_sites(parts, options.target_modules or ROLES, self.name)
        names = selected([name for name in names if name.split(".")[-2] not in FIRST_LAYERS], self.name)
        biased = [name for name in names if model.get_submodule(name.removesuffix(".weight")).bias is not None]
        inputs = sorted({*biased, *parts.linear["ffn"]} & set(names))
        config = IA3Config(target_modules=modules(names), feedforward_modules=modules(inputs))
        inject_adapter_in_model(config, model)
        return names

    def owns(self, name: str) -> bool:
        """Return whether a parameter is one that PEFT added."""
        return ".ia3_l." in name

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Read the factors off PEFT's layers."""
        from peft.tuners.ia3 import Linear

        out: dict[str, Delta] = {}
        for name, layer in model.named_modules():
            if isinstance(layer, Linear):
                factors = layer.ia3_l[ADAPTER].detach().double().cpu().numpy().reshape(-1)
                out[f"{name}.weight"] = Gain(
                    rows=layer.out_features,
                    columns=layer.in_features,
                    numbers=Numbers.of(factors - 1.0, dtype),
                    of_rows=not layer.is_feedforward,
                )
        return out
