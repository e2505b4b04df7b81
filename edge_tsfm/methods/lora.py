"""LoRA (Hu et al. 2021, arXiv 2106.09685) through PEFT; the paper's setting is r = 2, alpha = 16 on q, k, v, o."""

from __future__ import annotations

import numpy as np
from torch import nn

from device_runtime.format.delta import Delta, Dtype, LowRank, Numbers
from edge_tsfm.methods.base import ADAPTER, linear_sites, modules
from edge_tsfm.models.parts import Parts
from edge_tsfm.options import Options

ROLES = ("q", "k", "v", "o")


class Lora:
    """Two thin factors for each site; the second starts at zero."""

    name = "lora"
    learning_rate = 1e-2
    exportable = True

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Put PEFT's layers around the chosen sites."""
        from peft import LoraConfig, inject_adapter_in_model

        names = linear_sites(parts, options.target_modules or ROLES, self.name)
        config = LoraConfig(r=options.rank or 2, lora_alpha=options.alpha, target_modules=modules(names))
        inject_adapter_in_model(config, model)
        return names

    def owns(self, name: str) -> bool:
        """Return whether a parameter is one that PEFT added."""
        return ".lora_" in name

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Read the factors off PEFT's layers."""
        from peft.tuners.lora import Linear

        out: dict[str, Delta] = {}
        for name, layer in model.named_modules():
            if isinstance(layer, Linear):
                a = layer.lora_A[ADAPTER].weight.detach().double().cpu().numpy()
                b = layer.lora_B[ADAPTER].weight.detach().double().cpu().numpy()
                scaling = float(np.float32(layer.scaling[ADAPTER]))
                out[f"{name}.weight"] = LowRank(a=Numbers.of(a, dtype), b=Numbers.of(b, dtype), scaling=scaling)
        return out
