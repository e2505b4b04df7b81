"""Make bundles and adapters of every family and precision, for `answers.py` to open on other processors.

    python tests/processors/blobs.py FOLDER

Each pair is ``FOLDER/NAME/bundle`` and ``FOLDER/NAME/adapter.etsa``: the dummy bases, and the bundled base with the
default FourierFT sites. Numbers of adapters are drawn, not trained: what counts is that they move the forecast as a
trained adapter's do.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ("int8", "float16")
BUNDLED = "edge-bolt-micro"
PROVENANCE = {"source": "test", "weights": "none", "licence": "Apache-2.0"}
EFFECT = 0.2  # of each tensor's own size: felt, and no more than training can do


def main(folder: Path) -> None:
    """Write all pairs."""
    from edge_tsfm.models import FAMILIES, load_base

    for family in FAMILIES:
        write_pairs(load_base(str(ROOT / "tests" / "dummy_bases" / family)), family, folder)
    write_pairs(load_base(BUNDLED), BUNDLED, folder)


def write_pairs(base: Any, name: str, folder: Path) -> None:
    """Write a base's pairs, one for each precision."""
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.methods.sites import touched_tensors
    from export import export_base, export_precision

    plain = folder / f"{name}-float32" / "bundle"
    plain.parent.mkdir(parents=True)
    export_base(base.model, family=base.family, name=name, out=plain, provenance=PROVENANCE)
    adapted = touched_tensors(base.model, ["*.v.weight", "norms"])
    for precision in PRECISIONS:
        out = folder / f"{name}-{precision}" / "bundle"
        out.parent.mkdir()
        # The dummies' eight channels are coarse in int8.
        export_precision(Bundle.open(plain), out=out, precision=precision, adapted=adapted, allowed=0.05)
    for precision in ("float32", *PRECISIONS):
        pair = folder / f"{name}-{precision}"
        (pair / "adapter.etsa").write_bytes(adapter_of(base, Bundle.open(pair / "bundle"), adapted))


def adapter_of(base: Any, bundle: Any, adapted: list[str]) -> bytes:
    """Export an adapter of drawn low-rank numbers on every adapted matrix."""

    import torch

    from device_runtime.format.binding import Binding
    from device_runtime.format.delta import LowRank, Numbers
    from export import export_adapter
    from export.contexts import synthetic_contexts

    draw = np.random.default_rng(7)
    deltas = {}
    for name in adapted:
        tensor = bundle.tensor(bundle.index_of(name))
        if tensor.ndim == 2:
            size = EFFECT * float(np.sqrt(np.mean(np.square(tensor))))
            a, b = draw.normal(size=(1, tensor.shape[1])), draw.normal(size=(tensor.shape[0], 1)) * size
            deltas[name] = LowRank(a=Numbers.of(a), b=Numbers.of(b), scaling=1.0)
    tuned = copy.deepcopy(base.model)
    with torch.no_grad():
        for name, delta in deltas.items():
            tuned.get_parameter(name).add_(torch.from_numpy(delta.dense()).float())
    contexts = synthetic_contexts(6, 40, missing=0.1, seed=9)
    own = bundle.manifest
    lengths = {"context_length": own.context_length, "prediction_length": own.prediction_length}
    return export_adapter(
        bundle=bundle,
        base=base.model,
        tuned=tuned,
        deltas=deltas,
        contexts=contexts,
        binding=Binding.of("MAP", interval_us=3_600_000_000, **lengths),
        version=1,
        metadata={},
    ).blob


if __name__ == "__main__":
    main(Path(sys.argv[1]))
