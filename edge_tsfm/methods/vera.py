"""VeRA (Kopiczko et al. 2023, arXiv 2310.11454) through PEFT, with projections from the format's own generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from device_runtime.format.delta import Delta, Dtype, Numbers, Vera
from device_runtime.format.generator import PROJECTION_ONE, STREAM_VERA_A, STREAM_VERA_B, projection
from edge_tsfm.methods.base import ADAPTER, linear_sites, modules
from edge_tsfm.models.parts import Parts
from edge_tsfm.options import Options

ROLES = ("q", "v")


class VeraMethod:
    """Two vectors for each site around frozen projections that a seed gives."""

    name = "vera"
    learning_rate = 0.3
    exportable = True

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Put PEFT's layers around the chosen sites and give them the format's projections."""
        from peft import VeraConfig, get_peft_model
        from peft.tuners.vera import Linear

        names = linear_sites(parts, options.target_modules or ROLES, self.name)
        rank = options.rank or 16
        config = VeraConfig(r=rank, target_modules=modules(names))
        # Wraps the layers of `model` in place; the wrapper itself is not needed.
        get_peft_model(model, config)
        for layer in model.modules():
            if isinstance(layer, Linear):
                # PEFT shares one wide projection and slices it; ours is made so that slices agree.
                a, b = layer.vera_A[ADAPTER], layer.vera_B[ADAPTER]  # [rank, widest in], [widest out, rank]
                half = np.sqrt(_scaling(layer)) / PROJECTION_ONE
                a.copy_(torch.from_numpy(projection(options.entries_seed, STREAM_VERA_A, rank, a.shape[1]) * half))
                b.copy_(torch.from_numpy(projection(options.entries_seed, STREAM_VERA_B, rank, b.shape[0]).T * half))
                break  # one shared pair for all layers
        return names

    def owns(self, name: str) -> bool:
        """Return whether a parameter is one that PEFT added."""
        return "vera_lambda_" in name

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Read the vectors off PEFT's layers."""
        from peft.tuners.vera import Linear

        out: dict[str, Delta] = {}
        for name, layer in model.named_modules():
            if isinstance(layer, Linear):
                d = layer.vera_lambda_d[ADAPTER].detach().double().cpu().numpy()
                b = layer.vera_lambda_b[ADAPTER].detach().double().cpu().numpy()
                out[f"{name}.weight"] = Vera(
                    d=Numbers.of(d, dtype),
                    b=Numbers.of(b, dtype),
                    columns=layer.in_features,
                    seed=options.entries_seed,
                    scaling=_scaling(layer),
                )
        return out


def _scaling(layer: Any) -> float:
    """Scale products of two numbers uniform in (-1, 1) to the size of PEFT's Kaiming initialisation."""
    rank, width = layer.vera_A[ADAPTER].shape
    return float(np.float32(6 / np.sqrt(rank * width)))
