"""Learning graphs for a bundle: of the base that it was exported from, with the loss that training uses."""

from __future__ import annotations

import copy
from collections.abc import Callable

from device_runtime.forecast.bundle import Bundle
from edge_tsfm.errors import ModelError
from edge_tsfm.models import Base
from edge_tsfm.models.biases import put_biases
from edge_tsfm.models.family import FAMILIES
from export import LearningExport, export_learning
from export.manifest import exported_weights

Progress = Callable[[str, int, int], None]


def add_learning(base: Base, bundle: Bundle, learnable: str, progress: Progress = lambda *_: None) -> LearningExport:
    """Write the learning graphs of ``bundle`` beside it, as `export.export_learning` does.

    Raises `ModelError` for a base that the bundle was not exported from, `ExportError` for what cannot be written or
    proven.
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
    return export_learning(model, bundle, learnable=learnable, loss=FAMILIES[base.family].loss, progress=progress)
