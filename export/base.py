"""`export_base`: a frozen base, written once, as a bundle that the device opens and the exporter has proven."""

from __future__ import annotations

import hashlib
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
from export import bolt
from export.errors import ExportError
from export.folder import appearing, pinned_files, write_tunable
from export.graph import externalise, trace, tunable_names
from export.parity import BaseParity, check_base

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class FamilyExport:
    """What one model family gives the exporter."""

    module: Callable[[nn.Module], nn.Module]  # the graph to trace
    frozen: tuple[str, ...]  # parameters no method tunes
    describe: Callable[[Any], Mapping[str, Any]]  # context_length, prediction_length, quantile_levels, parameters


FAMILIES: dict[str, FamilyExport] = {
    "chronos-bolt": FamilyExport(module=bolt.BoltGraph, frozen=bolt.FROZEN, describe=bolt.describe),
}


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
    if family not in FAMILIES:
        raise ExportError(f"no exporter for family {family!r}", hint=f"known: {', '.join(FAMILIES)}")
    recipe = FAMILIES[family]
    model = model.eval()
    with appearing(out) as scratch:
        progress("trace", 0, 1)
        module = recipe.module(model).eval()
        with tempfile.TemporaryDirectory() as traces, torch.no_grad():
            graph = bolt.trace_graph(module, trace, Path(traces))
        names = tunable_names(graph, module, recipe.frozen)
        parameters = dict(model.named_parameters())
        entries = write_tunable(scratch, {name: parameters[name].detach().float().cpu().numpy() for name in names})
        externalise(graph, entries)
        onnx.save_model(graph, str(scratch / "forecast.onnx"))
        dead = sorted(set(dict(model.named_parameters())) - set(names) - set(recipe.frozen))
        manifest = _manifest(scratch, model, recipe, family, name, entries, dead, provenance)
        write_atomic(scratch / MANIFEST_FILE, manifest)
        parity = check_base(model, Bundle.open(scratch), progress)
    return BaseExport(
        path=out,
        digest=hashlib.sha256(manifest).hexdigest(),
        bytes=sum(file.stat().st_size for file in out.iterdir()),
        tensors=len(entries),
        tunable_parameters=sum(entry.size for entry in entries),
        dead=tuple(dead),
        parity=parity,
    )


def _manifest(
    folder: Path,
    model: nn.Module,
    recipe: FamilyExport,
    family: str,
    name: str,
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
            **recipe.describe(model),
            "graphs": {"forecast": {"file": "forecast.onnx", "tensors": list(range(len(entries)))}},
            "files": pinned_files(folder),
            "tensors": [{"name": e.name, "offset": e.offset, "shape": list(e.shape)} for e in entries],
            "base": dict(provenance),
            "dead": dead,
            "tools": {
                tool: version(tool) for tool in ("edge-tsfm", "onnx", "torch", "chronos-forecasting", "transformers")
            },
        }
    )
