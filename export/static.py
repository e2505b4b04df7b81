"""`export_static`: a bundle's forecast in fixed shapes, compared with the bundle's own graph and pinned beside it.

For accelerators that compile a graph once, such as Qualcomm's HTP. The bundle does not change and takes the same
adapters: the static graph reads the tunable tensors from the bundle's own file (docs/adr/0039).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from device_runtime.errors import SelfTestError
from device_runtime.files import sync_folder, write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.measured import deviations, hear_tensors, long_and_short, one_by_one, rounding
from device_runtime.forecast.session import SessionSettings
from device_runtime.forecast.static import STATIC_FAMILIES, StaticBundle, open_static
from device_runtime.format import canonical
from device_runtime.format.manifest import MANIFEST_FILE
from device_runtime.format.static import FORMAT_NAME, STATIC, STATIC_FILE, VERSION
from export.errors import ExportError
from export.folder import link, pinned_files
from export.graph import Part, externalise, name_ties, trace
from export.learning import check_numbers, scratch_room
from export.static_bolt import static_part
from export.threads import one_thread

Progress = Callable[[str, int, int], None]

PARTS: Mapping[str, Callable[[Any, int, int], Part]] = {"chronos-bolt": static_part}


@dataclass(frozen=True, kw_only=True)
class StaticExport:
    """What was written beside a bundle, and how far it is from the bundle's own graph."""

    path: Path
    base_digest: str  # hex
    shape: str
    bytes: int
    nodes: int
    largest: float  # deviation, in standard deviations of the context
    tensors: int  # proven merged
    weakest: str
    weakest_margin: float  # in what the two graphs differ by


def export_static(
    model: nn.Module,
    bundle: Bundle,
    *,
    context_length: int,
    batch: int,
    progress: Progress = lambda *_: None,
) -> StaticExport:
    """Write the static graph of ``bundle`` into its folder; ``bundle.json`` and every file it pins stay as they are.

    ``model`` is what the bundle was exported from. The graph forecasts ``batch`` contexts of up to ``context_length``
    steps a run. On the processor it must forecast as the bundle's own graph does, with the base's numbers and with
    every tunable tensor moved. The manifest is written last. Raises `ExportError`; then nothing is left.
    """
    traced = find_part(bundle.manifest.family)
    if bundle.manifest.precision != "float32":
        raise ExportError(
            f"a static graph of a bundle in {bundle.manifest.precision}: want float32",
            hint="export the base in float32; an accelerator has a precision of its own",
        )
    manifest = bundle.path / STATIC_FILE
    if manifest.exists():
        raise ExportError(f"{manifest} exists; a static graph is written once", hint="remove it and static.onnx first")
    check_numbers(model, bundle)
    part = traced(model.eval(), context_length, batch)
    with scratch_room(bundle.path) as room, one_thread():
        progress("trace", 0, 1)
        graph, tensors = _traced(model, part, bundle)
        onnx.save_model(graph, str(room / f"{STATIC}.onnx"))
        files = pinned_files(room)
        write_atomic(room / STATIC_FILE, _compose(bundle, context_length, batch, tensors, files))
        for file in (*bundle.manifest.files, MANIFEST_FILE):
            link(bundle.path / file, room / file)
        opened = open_static(Bundle.open(room))
        largest, weakest, margin = _check(opened, progress)
        for name in (*files, STATIC_FILE):
            with (room / name).open("rb+") as written:
                os.fsync(written.fileno())
            (room / name).replace(bundle.path / name)
            sync_folder(bundle.path)
    return StaticExport(
        path=bundle.path,
        base_digest=bundle.digest.hex(),
        shape=opened.static.shape,
        bytes=sum((bundle.path / file).stat().st_size for file in (*files, STATIC_FILE)),
        nodes=len(graph.graph.node),
        largest=largest,
        tensors=len(tensors),
        weakest=weakest,
        weakest_margin=margin,
    )


def find_part(family: str) -> Callable[[Any, int, int], Part]:
    """Return what makes a family's static graph. Raises `ExportError` for a family that has none."""
    if family not in PARTS:
        raise ExportError(f"no static graph for {family}", hint=f"families that have one: {', '.join(PARTS)}")
    return PARTS[family]


def _traced(model: nn.Module, part: Part, bundle: Bundle) -> tuple[onnx.ModelProto, list[int]]:
    """Trace the graph, tunable tensors in the bundle's file; return it and the tensors' indices in the table."""
    entries = bundle.manifest.tensors
    places = {entry.name: index for index, entry in enumerate(entries)}
    with torch.no_grad():
        graph = trace(part, places)
        name_ties(graph, model)
    used = sorted(places[tensor.name] for tensor in graph.graph.initializer if tensor.name in places)
    externalise(graph, entries)
    return graph, used


def _check(opened: StaticBundle, progress: Progress) -> tuple[float, str, float]:
    """Compare the static graph with the bundle's own, both on the processor. Raises `ExportError`.

    Returns the largest deviation, the tensor that is heard least, and by how much.
    """
    family, settings = opened.manifest.family, SessionSettings()

    def own(merged: Mapping[int, Any]) -> Any:
        return FAMILIES[family](opened, merged, settings)

    def static(merged: Mapping[int, Any]) -> Any:
        return STATIC_FAMILIES[family](opened, merged, settings)

    reference, device, largest = own({}), static({}), 0.0
    for contexts in long_and_short(opened.static.context_length):
        wanted, allowed = one_by_one(reference, contexts), rounding(reference, contexts)
        for got in (one_by_one(device, contexts), device.witness(contexts)):
            off = np.abs(deviations(got, wanted, contexts)).max(axis=(1, 2))
            if not (off <= allowed).all():
                raise ExportError(
                    f"the static graph's forecasts of {contexts.shape[1]} steps are {off.max():.2g} standard "
                    f"deviations off the bundle's, rounding allows {allowed[int(off.argmax())]:.2g}"
                )
            largest = max(largest, float(off.max()))
    tensors = opened.manifest.graphs[STATIC].tensors
    try:
        weakest, margin = hear_tensors(opened, tensors, own, static, opened.static.context_length, progress)
    except SelfTestError as error:
        raise ExportError(f"the static graph: {error.args[0]}") from error
    return largest, weakest, margin


def _compose(
    bundle: Bundle, context_length: int, batch: int, tensors: list[int], files: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """Compose the static manifest: everything FORMAT.md lists."""
    return canonical.dumps(
        {
            "format": FORMAT_NAME,
            "format_version": VERSION,
            "base_digest": bundle.digest.hex(),
            "context_length": context_length,
            "batch": batch,
            "precision": "float32",
            "graph": {"file": f"{STATIC}.onnx", "tensors": tensors},
            "files": files,
            "tools": {tool: version(tool) for tool in ("edge-tsfm", "onnx", "torch")},
        }
    )
