"""FourierFT (Gao et al. 2024, arXiv 2405.03003) through PEFT, entries from the format's own generator or chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from device_runtime.format.delta import Delta, Dtype, Fourier, Numbers
from device_runtime.format.generator import seeded_entries
from device_runtime.format.layout import MAX_RECORDS
from device_runtime.nearest import did_you_mean
from edge_tsfm.errors import ConfigError
from edge_tsfm.methods.base import ADAPTER, linear_sites, modules
from edge_tsfm.methods.entries import Entries
from edge_tsfm.models.parts import Parts
from edge_tsfm.options import SEEDED, Options

# Preset → (roles, parameters on each site). The first two are the readings of the paper's 2,400 on chronos-t5-tiny.
PRESETS: dict[str, tuple[tuple[str, ...], int]] = {
    "qv100": (("q", "v"), 100),
    "qkvo50": (("q", "k", "v", "o"), 50),
    "patch-v160": (("patch", "v"), 160),
}
DEFAULT_PRESET = "patch-v160"
T5_PRESET = "qv100"
OTHER_RECORDS = 16  # of a blob: what other methods, calibration, known answer and metadata may need


class FourierFT:
    """A few coefficients of each site's spectrum, zero at the start."""

    name = "fourierft"
    learning_rate = 0.1
    exportable = True

    def __init__(self, chosen: Entries | None = None) -> None:
        self.chosen = chosen  # a run's own entries, when its options do not have them seeded

    def attach(self, model: nn.Module, parts: Parts, options: Options) -> list[str]:
        """Put PEFT's layers around the chosen sites and give them the format's entries."""
        from peft import FourierFTConfig, inject_adapter_in_model

        from edge_tsfm.methods.closed_form import ClosedForm

        names, count = fourier_sites(model, parts, options)
        counts: dict[str, int] = {}
        if options.entries != SEEDED:
            assert self.chosen is not None, "entries are chosen before they are attached: find_method(name, entries)"
            names = [name for name in names if name in self.chosen]
            _check_chosen(self.chosen, names)
            counts = {name.removesuffix(".weight"): len(self.chosen[name]) for name in names}
        # init_weights=True is PEFT's word for a start at zero; its default is random and not the identity.
        config = FourierFTConfig(
            n_frequency=count,
            n_frequency_pattern=counts,
            scaling=options.scaling,
            init_weights=True,
            target_modules=modules(names),
        )
        inject_adapter_in_model(config, model)
        for name, layer in _layers(model):
            entries = self._entries(name, layer, options)
            u, v = np.divmod(entries.astype(np.int64), layer.in_features)
            layer.indices[ADAPTER] = torch.from_numpy(np.stack([u, v]))
            ClosedForm.of(layer, ADAPTER)
        return names

    def owns(self, name: str) -> bool:
        """Return whether a parameter is one that PEFT added."""
        return "fourierft_" in name

    def deltas(self, model: nn.Module, options: Options, dtype: Dtype) -> dict[str, Delta]:
        """Read the coefficients off PEFT's layers."""
        out: dict[str, Delta] = {}
        for name, layer in _layers(model):
            spectrum = layer.fourierft_spectrum[ADAPTER].detach().double().cpu().numpy()
            seeded = options.entries == SEEDED
            out[f"{name}.weight"] = Fourier(
                rows=layer.out_features,
                columns=layer.in_features,
                coefficients=Numbers.of(spectrum, dtype),
                scaling=float(np.float32(layer.fourierft_scaling[ADAPTER])),
                seed=options.entries_seed if seeded else None,
                explicit=None if seeded else self._entries(name, layer, options),
            )
        return out

    def _entries(self, name: str, layer: Any, options: Options) -> NDArray[np.uint32]:
        """Return a layer's entries: flat row-major positions in its spectrum, ascending."""
        if options.entries != SEEDED and self.chosen is not None:
            return self.chosen[f"{name}.weight"]
        count = layer.fourierft_n_frequency[ADAPTER]
        return seeded_entries(options.entries_seed, layer.out_features, layer.in_features, count)


def fourier_sites(model: nn.Module, parts: Parts, options: Options) -> tuple[list[str], int]:
    """Return the weights that the options name, and how many parameters each gets (on average, if chosen over all).

    Raises `ConfigError` for a preset or role that is not known, none of which the base has, or too many parameters.
    """
    preset = options.preset or (DEFAULT_PRESET if parts.linear["patch"] else T5_PRESET)
    if preset not in PRESETS:
        raise ConfigError(
            f"fourierft: no preset {preset!r}", hint=f"{did_you_mean(preset, PRESETS)}presets: {', '.join(PRESETS)}"
        )
    roles, count = PRESETS[preset]
    names = linear_sites(parts, options.target_modules or roles, FourierFT.name)
    count = options.n_frequency or count
    parameters = dict(model.named_parameters())
    smallest = min(names, key=lambda name: parameters[name].numel())
    if count > parameters[smallest].numel() // 2:
        raise ConfigError(
            f"fourierft: n_frequency {count} is more than half of the {parameters[smallest].numel()} parameters of "
            f"{smallest}",
            hint="lower --n-frequency",
        )
    return names, count


def _check_chosen(chosen: Entries, names: list[str]) -> None:
    """Refuse entries of other sites, or more different sets of them than a blob has records: each needs its own."""
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise ConfigError(f"fourierft: entries for {unknown[0]}, which is not among the sites", hint="train again")
    sets = len({entries.tobytes() for entries in chosen.values()})
    if sets > MAX_RECORDS - OTHER_RECORDS:
        raise ConfigError(
            f"fourierft: {sets} sites with entries of their own; a blob has room for {MAX_RECORDS - OTHER_RECORDS}",
            hint="--entries gradient-shared or seeded, or fewer --target-modules",
        )


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Find PEFT's FourierFT layers."""
    from peft.tuners.fourierft import FourierFTLinear

    for name, module in model.named_modules():
        if isinstance(module, FourierFTLinear):
            yield name, module
