"""`export_base`: a frozen base, written once, as a bundle that the device opens and the exporter has proven."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from device_runtime import canonical
from device_runtime.bundle import Bundle
from device_runtime.files import write_atomic
from device_runtime.manifest import BUNDLE_VERSION, FORMAT_NAME, MANIFEST_FILE, TensorEntry
from export.base_answer import give_known_answer
from export.families import find_family
from export.folder import appearing, pinned_files, write_tunable
from export.graph import externalise, name_ties, share, trace, tunable_names
from export.parity import BaseParity, check_base
from export.threads import threads_for

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class BaseExport:
    """What was written, and the proof that it is the torch model."""

    path: Path
    digest: str  # hex
    bytes: int
    tensors: int
    tunable_parameters: int
    dead: tuple[str, ...]
    parity: BaseParity


def export_base(
    model: nn.Module,
    *,
    family: str,
    name: str,
    out: Path,
    provenance: Mapping[str, str],
    progress: Progress = lambda *_: None,
) -> BaseExport:
    """Write ``model`` as a base bundle to the new folder ``out``.

    ``provenance`` says where the weights come from (``source``, ``licence``, ``weights``: their digest). The bundle
    is checked against torch, base and with every tunable tensor perturbed in turn, before the folder appears under
    its name. Raises `ExportError`; then nothing is written.
    """
    recipe = find_family(family)
    model = model.eval()
    described = recipe.describe(model)
    with appearing(out) as scratch:
        parts = recipe.parts(model)
        graphs: dict[str, onnx.ModelProto] = {}
        with tempfile.TemporaryDirectory() as traces, torch.no_grad():
            for number, part in enumerate(parts):
                progress("trace", number, len(parts))
                graphs[part.name] = trace(part, Path(traces))
                name_ties(graphs[part.name], model)
        used = {part.name: tunable_names(graphs[part.name], model, recipe.frozen) for part in parts}
        names = sorted(set().union(*used.values()))
        parameters = dict(model.named_parameters())
        entries = write_tunable(scratch, {name: parameters[name].detach().float().cpu().numpy() for name in names})
        share(list(graphs.values()), recipe.frozen, scratch)
        for part_name, graph in graphs.items():
            externalise(graph, entries)
            onnx.save_model(graph, str(scratch / f"{part_name}.onnx"))
        dead = sorted(set(parameters) - set(names) - set(recipe.frozen))
        tensors = {part: [names.index(one) for one in used[part]] for part in graphs}
        manifest = _manifest(scratch, described, family, name, tensors, entries, dead, provenance)
        write_atomic(scratch / MANIFEST_FILE, manifest)
        bundle = Bundle.open(scratch)
        with threads_for(model), bundle.in_memory():  # hundreds of sessions: read and checked once
            parity = check_base(model, bundle, progress)
        digest = give_known_answer(bundle).digest
    return BaseExport(
        path=out,
        digest=digest.hex(),
        bytes=sum(file.stat().st_size for file in out.iterdir()),
        tensors=len(entries),
        tunable_parameters=sum(entry.size for entry in entries),
        dead=tuple(dead),
        parity=parity,
    )


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
