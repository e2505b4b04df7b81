"""VeRA (Kopiczko et al. 2023, arXiv 2310.11454) through PEFT, with projections from the format's own generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from device_runtime.delta import Delta, Dtype, Numbers, Vera
from device_runtime.generator import PROJECTION_ONE, STREAM_VERA_A, STREAM_VERA_B, projection
from edge_tsfm.methods.base import ADAPTER, Options, linear_sites, modules

ROLES = ("q", "v")
# Projections are uniform in (-1, 1); this brings their products to the size PEFT's initialisation gives.
SCALE = 0.02


class VeraMethod:
    """Two vectors for each site around frozen projections that a seed gives."""

    name = "vera"
    learning_rate = 3e-2
    exportable = True

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Put PEFT's layers around the chosen sites and give them the format's projections."""
        from peft import VeraConfig, get_peft_model
        from peft.tuners.vera import Linear

        names = linear_sites(parts, options.roles or ROLES, self.name)
        rank = options.rank or 16
        config = VeraConfig(r=rank, target_modules=modules(names), save_projection=False)
        # Wraps the layers of `model` in place; the wrapper itself is not needed.
        get_peft_model(model, config)
        for layer in model.modules():
            if isinstance(layer, Linear):
                # PEFT shares one wide projection and slices it; ours is made so that slices agree.
                for store, stream, transposed in (
                    (layer.vera_A, STREAM_VERA_A, False),
                    (layer.vera_B, STREAM_VERA_B, True),
                ):
                    shared = store[ADAPTER]
                    width = shared.shape[0] if transposed else shared.shape[1]
                    ours = projection(options.entries_seed, stream, rank, width) / PROJECTION_ONE * np.sqrt(SCALE)
                    shared.copy_(torch.from_numpy(ours.T if transposed else ours))
                break  # one shared pair for all layers
        return names

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
                    scaling=float(np.float32(SCALE)),
                )
        return out
