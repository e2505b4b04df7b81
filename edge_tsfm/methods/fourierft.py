"""FourierFT (Gao et al. 2024, arXiv 2405.03003) through PEFT, with entries from the format's own generator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from device_runtime.delta import Delta, Dtype, Fourier, Numbers
from device_runtime.generator import seeded_entries
from edge_tsfm.errors import ConfigError
from edge_tsfm.methods.base import ADAPTER, Options, linear_sites, modules
from edge_tsfm.models.parts import Parts

# Preset → (roles, numbers on each site). The first two are the readings of the paper's 2,400 on chronos-t5-tiny.
PRESETS: dict[str, tuple[tuple[str, ...], int]] = {
    "qv100": (("q", "v"), 100),
    "qkvo50": (("q", "k", "v", "o"), 50),
    "patch-v160": (("patch", "v"), 160),
}
DEFAULT_PRESET = "patch-v160"
T5_PRESET = "qv100"


class FourierFT:
    """A few coefficients of each site's spectrum, zero at the start."""

    name = "fourierft"
    learning_rate = 0.1
    exportable = True

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Put PEFT's layers around the chosen sites and give them the format's entries."""
        from peft import FourierFTConfig, inject_adapter_in_model

        preset = options.preset or (DEFAULT_PRESET if parts.linear["patch"] else T5_PRESET)
        if preset not in PRESETS:
            raise ConfigError(f"fourierft: no preset {preset!r}", hint=f"presets: {', '.join(PRESETS)}")
        roles, count = PRESETS[preset]
        names = linear_sites(parts, options.target_modules or roles, self.name)
        count = options.n_frequency or count
        parameters = dict(model.named_parameters())
        smallest = min(names, key=lambda name: parameters[name].numel())
        if count > parameters[smallest].numel() // 2:
            raise ConfigError(
                f"fourierft: n_frequency {count} is more than half of the {parameters[smallest].numel()} numbers of "
                f"{smallest}",
                hint="lower --n-frequency",
            )
        # init_weights=True is PEFT's word for a start at zero; its default is random and not the identity.
        config = FourierFTConfig(
            n_frequency=count, scaling=options.scaling, init_weights=True, target_modules=modules(names)
        )
        inject_adapter_in_model(config, model)
        for _, layer in _layers(model):
            entries = seeded_entries(options.entries_seed, layer.out_features, layer.in_features, count)
            u, v = np.divmod(entries.astype(np.int64), layer.in_features)
            layer.indices[ADAPTER] = torch.from_numpy(np.stack([u, v]))
        return names

    def owns(self, name: str) -> bool:
        """Say whether a parameter is one that PEFT added."""
        return "fourierft_" in name

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Read the coefficients off PEFT's layers."""
        out: dict[str, Delta] = {}
        for name, layer in _layers(model):
            spectrum = layer.fourierft_spectrum[ADAPTER].detach().double().cpu().numpy()
            out[f"{name}.weight"] = Fourier(
                rows=layer.out_features,
                columns=layer.in_features,
                coefficients=Numbers.of(spectrum, dtype),
                scaling=float(np.float32(layer.fourierft_scaling[ADAPTER])),
                seed=options.entries_seed,
            )
        return out


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Find PEFT's FourierFT layers."""
    from peft.tuners.fourierft import FourierFTLinear

    for name, module in model.named_modules():
        if isinstance(module, FourierFTLinear):
            yield name, module
