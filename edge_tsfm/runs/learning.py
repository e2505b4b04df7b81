"""Learning graphs for a bundle: of the base that it was exported from, with the loss that training uses."""

from __future__ import annotations

import copy
from collections.abc import Callable

from device_runtime.forecast.bundle import Bundle
from device_runtime.format.fourier_shift import FourierShift
from device_runtime.format.learning import FOURIERFT
from edge_tsfm.errors import ModelError
from edge_tsfm.methods.fourierft import fourier_sites
from edge_tsfm.models import Base
from edge_tsfm.models.biases import put_biases
from edge_tsfm.models.family import FAMILIES
from edge_tsfm.models.parts import find_parts
from edge_tsfm.options import Options
from export import FourierSites, LearningExport, export_learning
from export.manifest import exported_weights

Progress = Callable[[str, int, int], None]


def add_learning(base: Base, bundle: Bundle, learnable: str, progress: Progress = lambda *_: None) -> LearningExport:
    """Write the learning graphs of ``bundle`` beside it, as `export.export_learning` does.

    ``learnable`` may be ``fourierft/PRESET``. Raises `ModelError` for a base that the bundle was not exported from,
    `ExportError` for what cannot be written or proven, and as `find_sites`.
    """
    if exported_weights(bundle) != base.digest:
        raise ModelError(
            f"{bundle.path} was exported from weights {exported_weights(bundle)[:16]}…, {base.name} has "
            f"{base.digest[:16]}…",
            hint="give the base that the bundle was exported from with --base",
        )
    model = base.model
    own = {name for name, _ in model.named_parameters()}
    added = [entry.name for entry in bundle.manifest.tensors if entry.name not in own and entry.name.endswith(".bias")]
    if added:  # a bundle that takes added biases
        model = copy.deepcopy(model)
        put_biases(model, added)
    return export_learning(
        model,
        bundle,
        learnable=learnable.partition("/")[0],
        sites=find_sites(base, learnable),
        loss=FAMILIES[base.family].loss,
        progress=progress,
    )


def find_sites(base: Base, learnable: str) -> FourierSites | None:
    """Return the weights and entries of ``fourierft/PRESET``, drawn as the method draws them; None for biases.

    Raises `ConfigError` for a preset that is not known or does not fit the base.
    """
    method, _, preset = learnable.partition("/")
    if method != FOURIERFT:
        return None
    options = Options(preset=preset or None)
    names, count = fourier_sites(base.model, find_parts(base.model, FAMILIES[base.family]), options)
    shift = FourierShift(count=count, seed=options.entries_seed, scaling=options.scaling)
    return FourierSites(names=tuple(names), shift=shift)
