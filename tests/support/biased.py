"""A dummy bundle that learns, and blobs for it that move only what it learns, each with its known answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.learning import open_learning
from device_runtime.format.adapter import Adapter, KnownAnswer
from device_runtime.format.blob import encode
from device_runtime.format.delta import Delta, Dense, Numbers

BASES = Path(__file__).resolve().parents[1] / "dummy_bases"
ANSWER_CONTEXT = np.linspace(60, 90, 24, dtype=np.float32)


def learning_bundle(folder: Path, graphs: str = "learning") -> Path:
    """Copy the dummy Chronos-Bolt's bundle and its learning graphs to a new folder.

    ``graphs`` is "learning" for those of all biases, "state" for those of the output patch block's, with the state, or
    "fourier" for those of FourierFT's coefficients.
    """
    shutil.copytree(BASES / "chronos-bolt-bundle", folder)
    shutil.copytree(BASES / f"chronos-bolt-{graphs}", folder, dirs_exist_ok=True)
    return folder


def proven(bundle: Path, deltas: dict[str, Delta], **fields: Any) -> bytes:
    """Encode an adapter with the answer that this runtime gives with it merged."""
    opened = Bundle.open(bundle)
    made = {opened.index_of(name): delta for name, delta in deltas.items()}
    adapter: dict[str, Any] = {"base_digest": opened.digest, "version": 1, "deltas": made, **fields}
    unproven = Forecaster.open(opened, encode(Adapter(**adapter)), allow_unproven=True)
    expected = unproven._model.probe(ANSWER_CONTEXT, 18)
    answer = KnownAnswer(context=ANSWER_CONTEXT, expected=expected, tolerance=1e-3)
    return encode(Adapter(**adapter, known_answer=answer))


def biased(bundle: Path, seed: int, size: float = 0.05, **fields: Any) -> bytes:
    """An adapter that moves every live bias of the dummy base at random."""
    rng = np.random.default_rng(seed)
    entries = [entry for entry in Bundle.open(bundle).manifest.tensors if entry.name.endswith(".bias")]
    return proven(
        bundle,
        {entry.name: Dense(Numbers.of(rng.normal(size=(entry.size, 1)) * size, "float32")) for entry in entries},
        **fields,
    )


def waved(bundle: Path, seed: int, size: float = 0.05, **fields: Any) -> bytes:
    """An adapter that moves every weight of a bundle's FourierFT graphs at random, by ``size`` root mean square."""
    opened, learning = open_learning(bundle)
    assert learning.fourier is not None
    rng = np.random.default_rng(seed)
    deltas: dict[str, Delta] = {}
    for name in learning.names:
        shape = opened.manifest.tensors[opened.index_of(name)].rows_columns
        deltas[name] = learning.fourier.delta(rng.normal(size=learning.fourier.count) * size, shape)
    return proven(bundle, deltas, **fields)
