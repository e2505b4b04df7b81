"""`export_base`: a frozen base, written once, as a bundle for the device that has been compared with torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from device_runtime.files import write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.format import canonical
from device_runtime.format.manifest import BUNDLE_VERSION, FORMAT_NAME, MANIFEST_FILE, TensorEntry
from export.aside import set_aside
from export.base_answer import give_known_answer
from export.families import find_family
from export.family import FamilyExport
from export.folder import StoredTensors, appearing, pinned_files, write_tunable
from export.graph import embed, externalise, name_ties, share, trace, tunable_names
from export.parity import BaseParity, check_base
from export.survey import survey, unheard
from export.threads import one_thread

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class BaseExport:
    """What was written, and the proof that it is the torch model."""

    path: Path
    digest: str  # hex
    bytes: int
    tensors: int
    tunable_parameters: int
    dead: tuple[str, ...]  # parameters that no adapter can use
    silent: tuple[str, ...]  # those of them that the graph has, frozen: no forecast hears them, whatever they hold
    parity: BaseParity


def export_base(
    model: nn.Module,
    *,
    family: str,
    name: str,
    out: Path,
    provenance: Mapping[str, str],
    beside: Callable[[Bundle], object] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> BaseExport:
    """Write ``model`` as a base bundle to the new folder ``out``.

    ``provenance`` says where the weights come from (``source``, ``licence``, ``weights``: their digest). The bundle
    is checked against torch, with the base's numbers and with every tunable tensor drawn anew, before the folder
    appears under its name, and ``beside`` may add files to it until then. A tensor that no forecast hears stays in
    the graph, but not in the tensor table. Raises `ExportError`; then nothing is written.
    """
    recipe = find_family(family)
    model = model.eval()
    described = recipe.describe(model)
    parameters = [name for name, _ in model.named_parameters()]
    with appearing(out) as scratch, one_thread():
        graphs = _traced(model, recipe, progress)
        used = {part: tunable_names(graph, model, recipe.frozen) for part, graph in graphs.items()}
        names = sorted(set().union(*used.values()))
        progress("prove", 0, 3)
        silent: list[str] = []
        while True:  # twice, where tensors turn out to be heard by no forecast: the rest without them
            names = [name for name in names if name not in silent]
            entries = write_tunable(scratch, _arrays(model, names))
            stored = StoredTensors(scratch, entries)
            places = survey(model, recipe.response, stored, longest=described["context_length"])
            if not (more := unheard(places, names)):
                break
            silent += more
        share(list(graphs.values()), recipe.frozen, scratch)
        for part, graph in graphs.items():
            embed(graph, _arrays(model, silent))
            externalise(graph, entries)
            onnx.save_model(graph, str(scratch / f"{part}.onnx"))
        graphs.clear()
        dead = sorted(set(parameters) - set(names) - set(recipe.frozen))
        tensors = {part: [names.index(one) for one in some if one not in silent] for part, some in used.items()}
        manifest = _manifest(scratch, described, family, name, tensors, entries, dead, provenance)
        write_atomic(scratch / MANIFEST_FILE, manifest)
        bundle = Bundle.open(scratch)
        parity = check_base(model, bundle, progress, places=places)
        with set_aside(model, stored):
            bundle = give_known_answer(bundle)
        beside(bundle)
    return BaseExport(
        path=out,
        digest=bundle.digest.hex(),
        bytes=sum(file.stat().st_size for file in out.iterdir()),
        tensors=len(entries),
        tunable_parameters=sum(entry.size for entry in entries),
        dead=tuple(dead),
        silent=tuple(silent),
        parity=parity,
    )


def _traced(model: nn.Module, recipe: FamilyExport, progress: Progress) -> dict[str, onnx.ModelProto]:
    """Trace every part of a model: graphs by name, what could be tunable without its bytes."""
    parts = recipe.parts(model)
    own = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    shared = {id(model.get_parameter(name)) for name in recipe.frozen if name in own}
    tunable = {name for name in own if id(model.get_parameter(name)) not in shared}
    graphs: dict[str, onnx.ModelProto] = {}
    with torch.no_grad():
        for number, part in enumerate(parts):
            progress("trace", number, len(parts))
            graphs[part.name] = trace(part, tunable)
            name_ties(graphs[part.name], model)
    return graphs


def _arrays(model: nn.Module, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return parameters as arrays, in their own memory where they are float32 there."""
    return {name: model.get_parameter(name).detach().float().cpu().numpy() for name in names}


def _manifest(
    folder: Path,
    described: Mapping[str, Any],
    family: str,
    name: str,
    tensors: Mapping[str, list[int]],
    entries: list[TensorEntry],
    dead: list[str],
    provenance: Mapping[str, str],
) -> bytes:
    """Compose the manifest: everything FORMAT.md §2 lists."""
    return canonical.dumps(
        {
            "format": FORMAT_NAME,
            "format_version": BUNDLE_VERSION,
            "name": name,
            "family": family,
            "precision": "float32",
            **described,
            "graphs": {graph: {"file": f"{graph}.onnx", "tensors": used} for graph, used in tensors.items()},
            "files": pinned_files(folder),
            "tensors": [{"name": e.name, "offset": e.offset, "shape": list(e.shape)} for e in entries],
            "base": dict(provenance),
            "dead": dead,
            "tools": {
                tool: version(tool) for tool in ("edge-tsfm", "onnx", "torch", "chronos-forecasting", "transformers")
            },
        }
    )
