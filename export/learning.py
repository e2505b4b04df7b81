"""`export_learning`: the learning graphs of a bundle, compared with torch and pinned beside it.

Graphs are added to a bundle, which itself does not change: one computes the training loss and its gradient by chosen
biases or by FourierFT's coefficients of chosen weights, one forecasts with a shift of these for each row. If only the
biases of the output patch block are chosen, a third gives the input of this block, for learners that compute the block
themselves (docs/adr/0032). All read the bundle's own weight files, so an adapter is merged into them as into the
forecast's graph (docs/adr/0029).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from device_runtime.files import sync_folder, write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.learning import open_learning
from device_runtime.format import canonical
from device_runtime.format.fourier_shift import FourierShift
from device_runtime.format.learning import (
    FORMAT_NAME,
    FOURIER_VERSION,
    FOURIERFT,
    GRAPHS,
    LEARNABLE,
    LEARNING_FILE,
    OUTPUT_BIASES,
    SHIFTED,
    STATE,
)
from device_runtime.format.manifest import MANIFEST_FILE, Graph, Manifest, TensorEntry
from export.errors import ExportError
from export.families import FAMILIES, find_family
from export.folder import link, pinned_files
from export.graph import Part, externalise, name_ties, share, trace
from export.learning_proof import LearningParity, Loss, check_learning
from export.quantize_graph import store_float16, store_int8
from export.threads import one_thread

Progress = Callable[[str, int, int], None]

WEIGHTS_FILE = "learning.bin"  # frozen weights that several graphs need and the bundle does not have as float32
OUTPUT = "output_patch_embedding."


@dataclass(frozen=True, kw_only=True)
class FourierSites:
    """Weights that move by coefficients of their spectra."""

    names: tuple[str, ...]
    shift: FourierShift


@dataclass(frozen=True, kw_only=True)
class LearningExport:
    """What was written beside a bundle, and the proof that it is torch's."""

    path: Path
    digest: str  # hex, of the learning manifest
    base_digest: str  # hex
    bytes: int
    learnable: str
    names: tuple[str, ...]
    graphs: tuple[str, ...]
    parameters: int
    parity: LearningParity


def export_learning(
    model: nn.Module,
    bundle: Bundle,
    *,
    learnable: str,
    loss: Loss,
    sites: FourierSites | None = None,
    progress: Progress = lambda *_: None,
) -> LearningExport:
    """Write the learning graphs of ``bundle`` into its folder; ``bundle.json`` and every file it pins stay as they are.

    ``model`` is what the bundle was exported from, ``loss(model, context, target)`` its training loss. ``learnable``
    is one of `LEARNABLE`; ``sites`` are the weights of `FOURIERFT`. The learning manifest is written last, after the
    proof: without it the folder is the bundle it was. Raises `ExportError`; then nothing is left.
    """
    parts = learning_parts(bundle.manifest.family)
    if any(entry.quantised for entry in bundle.manifest.tensors):
        raise ExportError(
            f"{bundle.path} is {bundle.manifest.precision}: its adapted tensors are integers, which have no gradient",
            hint="export the base with --precision int8 or float32 to learn on the device",
        )
    names, fourier = learnable_names(bundle.manifest, learnable, sites), sites.shift if sites else None
    if fourier is not None and bundle.manifest.precision != "float32":
        raise ExportError(
            f"{bundle.path} is {bundle.manifest.precision}: {learnable} moves weights of float32 bundles only",
            hint="export the base with --precision float32, or learn its biases",
        )
    manifest = bundle.path / LEARNING_FILE
    if manifest.exists():
        raise ExportError(
            f"{manifest} exists; learning graphs are written once",
            hint="devices pin it by its digest: export the base to a new folder for other graphs",
        )
    check_numbers(model, bundle)
    with scratch_room(bundle.path) as room, one_thread():
        progress("trace", 0, 1)
        wanted = [
            part for part in parts(model, names, fourier) if part.name != STATE or has_state(bundle.manifest, learnable)
        ]
        graphs = _graphs(model.eval(), wanted, bundle, room)
        files = pinned_files(room)
        write_atomic(room / LEARNING_FILE, _compose(bundle, learnable, names, fourier, graphs, files))
        for file in bundle.manifest.files:
            link(bundle.path / file, room / file)
        link(bundle.path / MANIFEST_FILE, room / MANIFEST_FILE)
        opened, learning = open_learning(room)
        progress("prove", 0, 1)
        parity = check_learning(model, opened, learning, loss)
        _move(room, bundle.path, [*files, LEARNING_FILE])
    return LearningExport(
        path=bundle.path,
        digest=learning.digest.hex(),
        base_digest=bundle.digest.hex(),
        bytes=sum((bundle.path / file).stat().st_size for file in (*files, LEARNING_FILE)),
        learnable=learnable,
        names=tuple(names),
        graphs=tuple(graphs),
        parameters=sum(learning.sizes(bundle.manifest)),
        parity=parity,
    )


def learning_parts(family: str) -> Callable[[Any, Sequence[str], FourierShift | None], list[Part]]:
    """Return what makes a family's learning graphs. Raises `ExportError` for a family that has none."""
    parts = find_family(family).learning
    if parts is None:
        made = [name for name, record in FAMILIES.items() if record.learning is not None]
        raise ExportError(
            f"no learning graphs for {family}: its loss and gradient are not written as a graph",
            hint=f"families that learn on the device: {', '.join(made)}; others take adapters from a workstation",
        )
    return parts


def has_state(manifest: Manifest, learnable: str) -> bool:
    """Whether a bundle gets the state graph: of other biases, or with integers for weights, C could not learn by it."""
    return learnable == OUTPUT_BIASES and manifest.precision == "float32"


def learnable_names(manifest: Manifest, learnable: str, sites: FourierSites | None = None) -> list[str]:
    """Name the tensors that ``learnable`` means, in the order of the tensor table. Raises `ExportError`."""
    if learnable not in LEARNABLE or (learnable == FOURIERFT) != (sites is not None):
        raise ExportError(f"no learnable {learnable!r}", hint=f"known: {', '.join(LEARNABLE)}, the last with its sites")
    if sites is not None:
        names = [entry.name for entry in manifest.tensors if entry.name in sites.names]
        if missing := sorted(set(sites.names) - set(names)):
            raise ExportError(
                f"{missing[0]} is not in the bundle's tensor table, so no adapter could carry what is learnt"
            )
        return names
    names = [entry.name for entry in manifest.tensors if len(entry.shape) == 1 and entry.name.endswith(".bias")]
    if learnable == OUTPUT_BIASES:
        names = [name for name in names if name.startswith(OUTPUT)]
    if not names:
        raise ExportError(
            f"{learnable}: none of them is in the bundle's tensor table, so no adapter could carry what is learnt",
            hint="export the base with --keep bitfit among others",
        )
    return names


def check_numbers(model: nn.Module, bundle: Bundle) -> None:
    """Refuse a model that is not the one the bundle was exported from, as far as its tensor table tells."""
    own = dict(model.named_parameters())
    for index, entry in enumerate(bundle.manifest.tensors):
        if entry.name not in own:
            raise ExportError(
                f"{entry.name}: the bundle has it, the model does not", hint="--base must be the bundle's"
            )
        if not np.array_equal(bundle.tensor(index), own[entry.name].detach().float().cpu().numpy(), equal_nan=True):
            raise ExportError(
                f"{entry.name}: the bundle has other values than the model", hint="--base must be the bundle's"
            )


def _graphs(model: nn.Module, parts: Sequence[Part], bundle: Bundle, room: Path) -> dict[str, Graph]:
    """Trace and write the graphs: adapted tensors in the bundle's own file, what several share in `WEIGHTS_FILE`.

    A bundle of another precision forecasts with its own weights, so its shifted graph is stored as its forecast graph
    was. The gradient is of the float32 model either way: an integer weight has none.
    """
    entries = bundle.manifest.tensors
    places = {entry.name: index for index, entry in enumerate(entries)}
    precision = bundle.manifest.precision
    models = {}
    with torch.no_grad():
        for part in parts:
            reduced = precision != "float32" and part.name == SHIFTED
            models[part.name] = trace(part, () if reduced else places)
            name_ties(models[part.name], model)
    used = {name: [tensor.name for tensor in graph.graph.initializer] for name, graph in models.items()}
    if precision != "float32":
        models[SHIFTED] = _stored(models[SHIFTED], list(places), entries, precision)
    rest = [name for name, _ in model.named_parameters() if name not in places]
    share(list(models.values()), rest, room, WEIGHTS_FILE)
    for name, graph in models.items():
        externalise(graph, entries)
        onnx.save_model(graph, str(room / f"{name}.onnx"))
    return {
        name: Graph(file=f"{name}.onnx", tensors=tuple(sorted(places[one] for one in some if one in places)))
        for name, some in used.items()
    }


def _stored(
    graph: onnx.ModelProto, adapted: Sequence[str], entries: Sequence[TensorEntry], precision: str
) -> onnx.ModelProto:
    """Store a graph's frozen weights as `export.quantize` stores those of a bundle."""
    if precision == "float16":
        return store_float16(graph, adapted, entries)
    with tempfile.TemporaryDirectory() as traces:
        return store_int8(graph, adapted, entries, Path(traces))


def _compose(
    bundle: Bundle,
    learnable: str,
    names: Sequence[str],
    fourier: FourierShift | None,
    graphs: Mapping[str, Graph],
    files: Mapping[str, Mapping[str, Any]],
) -> bytes:
    """Compose the learning manifest: everything FORMAT.md lists."""
    return canonical.dumps(
        {
            "format": FORMAT_NAME,
            "format_version": FOURIER_VERSION if fourier else _version(graphs),
            **({"fourier": asdict(fourier)} if fourier else {}),
            "base_digest": bundle.digest.hex(),
            "learnable": learnable,
            "names": list(names),
            "context_length": bundle.manifest.context_length,
            "prediction_length": bundle.manifest.prediction_length,
            "quantile_levels": list(bundle.manifest.quantile_levels),
            "graphs": {name: {"file": graph.file, "tensors": list(graph.tensors)} for name, graph in graphs.items()},
            "files": files,
            "tools": {tool: version(tool) for tool in ("edge-tsfm", "onnx", "torch")},
        }
    )


def _version(graphs: Mapping[str, Graph]) -> int:
    """Return the oldest format version with these graphs."""
    return next(version for version, some in GRAPHS.items() if set(some) == set(graphs))


@contextmanager
def scratch_room(bundle: Path) -> Iterator[Path]:
    """Give a scratch folder inside a bundle's. Raises `ExportError` where nothing can be written there."""
    try:
        with tempfile.TemporaryDirectory(dir=bundle, prefix=".export.") as scratch:
            yield Path(scratch)
    except OSError as error:
        raise ExportError(
            f"cannot write into {bundle}: {error.strerror or error}", hint="check space and permissions"
        ) from error


def _move(room: Path, bundle: Path, files: Sequence[str]) -> None:
    """Move finished files into the bundle's folder, durably and in order: the manifest, last, makes them count."""
    for name in files:
        with (room / name).open("rb+") as written:
            os.fsync(written.fileno())
    for name in files:
        (room / name).replace(bundle / name)
        sync_folder(bundle)
