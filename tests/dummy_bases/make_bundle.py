"""Make the committed dummy bundle, its learning graphs, an adapter for it, and what torch forecasts with both.

    python tests/dummy_bases/make_bundle.py

The device's tests read these files where neither torch nor onnx is installed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.models import Base
    from export import LearningExport

HERE = Path(__file__).resolve().parent
BUNDLE = HERE / "chronos-bolt-bundle"
GRAPHS = {
    "biases": HERE / "chronos-bolt-learning",
    "output-biases": HERE / "chronos-bolt-state",
    "fourierft": HERE / "chronos-bolt-fourier",
}
ADAPTER = HERE / "chronos-bolt.etsa"
EXPECTED = HERE / "chronos-bolt-expected.npz"


def main() -> None:
    """Write the three, replacing what was there."""
    from chronos import ChronosBoltPipeline

    from device_runtime.forecast.bundle import Bundle
    from device_runtime.format.binding import Binding
    from device_runtime.format.delta import Fourier, Numbers
    from device_runtime.format.manifest import MANIFEST_FILE
    from edge_tsfm.models import load_base
    from edge_tsfm.runs.learning import add_learning
    from export import export_adapter, export_base
    from export.contexts import synthetic_contexts
    from export.parity import replaced

    base = load_base(str(HERE / "chronos-bolt"))
    shutil.rmtree(BUNDLE, ignore_errors=True)
    export_base(
        base.model,
        family=base.family,
        name="dummy-bolt",
        out=BUNDLE,
        provenance={"source": "tests/dummy_bases/make.py", "weights": base.digest, "licence": "Apache-2.0"},
    )
    bundle = Bundle.open(BUNDLE)
    for learnable, folder in GRAPHS.items():
        if learnable == "fourierft":
            add_fourier(base, bundle)
        else:
            add_learning(base, bundle, learnable)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in set(BUNDLE.iterdir()) - {BUNDLE / name for name in (*bundle.manifest.files, MANIFEST_FILE)}:
            shutil.move(file, folder / file.name)
    rng = np.random.default_rng(0)
    names = [
        entry.name for entry in bundle.manifest.tensors if entry.name.endswith(("v.weight", "hidden_layer.weight"))
    ]
    deltas = {}
    for name in names:
        rows, columns = bundle.manifest.tensors[bundle.index_of(name)].rows_columns
        coefficients = Numbers.of(rng.normal(size=8) * 0.3)
        deltas[name] = Fourier(rows=rows, columns=columns, coefficients=coefficients, scaling=150.0, seed=777)
    contexts = synthetic_contexts(6, 40, missing=0.2, seed=5)
    merged_model = load_base(str(HERE / "chronos-bolt"))
    parameters = dict(merged_model.model.named_parameters())
    changed = {name: (parameters[name].numpy() + delta.dense()).astype(np.float32) for name, delta in deltas.items()}
    with replaced(merged_model.model, changed):
        result = export_adapter(
            bundle=bundle,
            base=base.model,
            tuned=merged_model.model,
            deltas=deltas,
            contexts=contexts,
            binding=Binding.of("HR", interval_us=3_600_000_000, context_length=2_048, prediction_length=1_024),
            version=3,
            metadata={"method": "fourierft"},
        )
        pipeline = ChronosBoltPipeline(merged_model.model)
        levels = [0.1, 0.25, 0.5, 0.85]
        long, _ = pipeline.predict_quantiles(contexts_tensor(contexts), prediction_length=150, quantile_levels=levels)
    ADAPTER.write_bytes(result.blob)
    frozen, _ = ChronosBoltPipeline(base.model).predict_quantiles(contexts_tensor(contexts), prediction_length=20)
    np.savez_compressed(EXPECTED, context=contexts, base=frozen.numpy(), adapted_long=long.numpy(), levels=levels)


def add_fourier(base: Base, bundle: Bundle) -> LearningExport:
    """Add learning graphs of FourierFT; no preset is small enough for a dummy."""
    from device_runtime.format.fourier_shift import FourierShift
    from edge_tsfm.methods.fourierft import fourier_sites
    from edge_tsfm.models.family import FAMILIES
    from edge_tsfm.models.parts import find_parts
    from edge_tsfm.options import Options
    from export import FourierSites, export_learning

    family = FAMILIES[base.family]
    options = Options(target_modules=("patch", "q", "v"), n_frequency=8)
    names, count = fourier_sites(base.model, find_parts(base.model, family), options)
    shift = FourierShift(count=count, seed=options.entries_seed, scaling=options.scaling)
    sites = FourierSites(names=tuple(names), shift=shift)
    return export_learning(base.model, bundle, learnable="fourierft", sites=sites, loss=family.loss)


def contexts_tensor(contexts: np.ndarray) -> object:
    """Return contexts as torch wants them."""
    import torch

    return torch.from_numpy(contexts)


if __name__ == "__main__":
    main()
