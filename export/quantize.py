"""`export_precision`: a float32 bundle to one with int8 or float16 frozen weights, refused if forecasts deviate.

The float32 bundle has been compared with torch, so everything here is measured against it, on the device's own runtime.
What an adapter may change stays float32, for a small delta would be lost in a quantised weight; or, in int8-merged, its
original stays in float16, and what is quantised is the sum (docs/adr/0037).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from device_runtime.files import write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.format import canonical
from device_runtime.format.delta import Delta
from device_runtime.format.manifest import BUNDLE_VERSION, MANIFEST_FILE, QUANTISED_VERSION
from export.base_answer import give_known_answer
from export.deviation import Deviation, adapter_kept, check_tensors, long_and_short, measure, require_kept
from export.errors import ExportError
from export.families import FAMILIES, find_family
from export.folder import appearing, pinned_files, write_tunable
from export.manifest import read_manifest
from export.merged_graph import quantised_tensors, store_merged, write_integers
from export.quantize_graph import Outside, float_weights, in_float16, store_float16, store_int8

FloatArray = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

MERGED = "int8-merged"
PRECISIONS = ("float32", "int8", MERGED, "float16")
MAX_DEVIATION = 0.01  # of the contexts' scale; the bundled base's int8 is at 0.002
# Not a bound on rounding: the smallest power of ten that the manifest can state, whose numbers have no exponents.
# Float32's own rounding is a hundred times below (2e-6 of the scale for the bundled bases).
LEAST_DEVIATION = 1e-4


@dataclass(frozen=True, kw_only=True)
class PrecisionExport:
    """What was written and what it costs."""

    path: Path
    digest: str  # hex
    precision: str
    bytes: int
    float32_bytes: int  # of the bundle it was made from
    tensors: int
    tunable_parameters: int
    float_weights: int  # frozen numbers that stayed float32: tables, mostly
    allowed: float  # mean deviation
    synthetic: Deviation
    data: Deviation | None  # on contexts that were given
    silent: tuple[str, ...]  # adapted tensors that no forecast hears: frozen after all
    effect_kept: float | None  # share of the given adapter's effect; see `effect_kept`


def export_precision(
    source: Bundle,
    *,
    out: Path,
    precision: str,
    adapted: Collection[str],
    allowed: float = MAX_DEVIATION,
    contexts: FloatArray | None = None,
    adapter: Mapping[str, Delta] | None = None,
    beside: Callable[[Bundle], object] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> PrecisionExport:
    """Write ``source`` (a float32 bundle) to the new folder ``out`` with frozen weights in ``precision``.

    ``adapted`` names the tensors that adapters may touch: they make up the new tensor table and stay float32, but for
    those of int8-merged that only products use.
    ``contexts`` ``[N, L]`` are real ones to measure on as well; ``adapter`` (torch parameter name → delta) is one
    whose effect is compared on both bundles. ``beside`` may add files to the folder before it appears. Raises
    `ExportError` when the mean deviation from float32 exceeds ``allowed`` (in units of the contexts' scale), on
    synthetic or real contexts, with the base alone or with any one adapted tensor perturbed, or where too little of
    the adapter's effect is left (`require_kept`); then nothing is written.
    """
    _check_request(source, precision, adapted, allowed, adapter or {})
    names = [entry.name for entry in source.manifest.tensors if entry.name in adapted]
    silent: list[str] = []
    with appearing(out) as scratch:
        while True:  # twice, where a tensor turns out to be heard by no forecast: then it is as frozen as the rest
            progress("store", 0, 1)
            stored, left = _store(source, scratch, precision, names, allowed, silent)
            with source.in_memory(), stored.in_memory():  # many sessions: read and checked once
                synthetic = measure(source, stored, long_and_short(source), allowed, "synthetic contexts")
                data = None if contexts is None else measure(source, stored, [contexts], allowed, "the data's contexts")
                unheard = check_tensors(source, stored, progress)
            if not unheard:
                break
            silent += unheard
            names = [name for name in names if name not in unheard]
            if not names:
                raise ExportError(
                    f"none of the adapted tensors changes a forecast, {unheard[0]} for one: nothing could be adapted",
                    hint="name other methods with --keep",
                )
        kept = None if adapter is None else adapter_kept(source, stored, adapter, contexts)
        if kept is not None:
            require_kept(stored, kept)
        entries = stored.manifest.tensors
        stored = give_known_answer(stored)
        beside(stored)
    return PrecisionExport(
        path=out,
        digest=stored.digest.hex(),
        precision=precision,
        bytes=_size(out),
        float32_bytes=_size(source.path),
        tensors=len(entries),
        tunable_parameters=sum(entry.size for entry in entries),
        float_weights=left,
        allowed=allowed,
        synthetic=synthetic,
        data=data,
        silent=tuple(silent),
        effect_kept=kept,
    )


def _store(
    source: Bundle, folder: Path, precision: str, names: list[str], allowed: float, silent: list[str]
) -> tuple[Bundle, int]:
    """Write the bundle's files over what is in ``folder``; return it and how many frozen numbers stayed float32."""
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    tensors: dict[str, NDArray[np.floating[Any]]] = {name: source.tensor(source.index_of(name)) for name in names}
    integers: dict[str, Outside] = {}
    if precision == MERGED:
        tensors |= _halves(source, tensors)
        integers = write_integers(folder, {n: t.astype(np.float32) for n, t in tensors.items() if t.itemsize == 2})
    entries = write_tunable(folder, tensors)
    left = 0
    for graph in source.manifest.graphs.values():
        model = onnx.load(str(source.path / graph.file))
        with tempfile.TemporaryDirectory() as traces:
            if precision == "int8":
                model = store_int8(model, names, entries, Path(traces))
            elif precision == MERGED:
                model = store_merged(model, names, entries, integers, Path(traces))
            else:
                model = store_float16(model, names, entries)
        left += float_weights(model)
        onnx.save_model(model, str(folder / graph.file))
    written = {name: value for name, value in read_manifest(source).items() if name != "known_answer"}
    manifest = written | {
        "precision": precision,
        "max_deviation": allowed,
        "format_version": QUANTISED_VERSION if integers else BUNDLE_VERSION,
        "files": pinned_files(folder),
        "tensors": [
            {"name": e.name, "offset": e.offset, "shape": list(e.shape), **({"quantised": True} if e.quantised else {})}
            for e in entries
        ],
        "graphs": {
            name: {"file": graph.file, "tensors": _table(source, graph.tensors, names)}
            for name, graph in source.manifest.graphs.items()
        },
        "dead": sorted({*written["dead"], *silent}),
    }
    write_atomic(folder / MANIFEST_FILE, canonical.dumps(manifest))
    return Bundle.open(folder), left


def _halves(source: Bundle, tensors: Mapping[str, NDArray[np.floating[Any]]]) -> dict[str, NDArray[np.float16]]:
    """Return those of ``tensors`` that are quantised, in float16.

    Raises `ExportError` where there is none, or a number is too large.
    """
    graphs = [onnx.load(str(source.path / graph.file)) for graph in source.manifest.graphs.values()]
    found = quantised_tensors(graphs, tensors)
    if not found:
        raise ExportError(
            f"{MERGED}: no adapted tensor is a product's weight, so nothing is merged into integers",
            hint="--precision int8 keeps vectors in float32",
        )
    return {name: in_float16(name, tensors[name]) for name in tensors if name in found}


def _check_request(
    source: Bundle, precision: str, adapted: Collection[str], allowed: float, adapter: Mapping[str, Delta]
) -> None:
    """Refuse what cannot be done before anything is written."""
    manifest = source.manifest
    known = {entry.name for entry in manifest.tensors}
    if precision not in PRECISIONS[1:]:
        raise ExportError(f"no precision {precision!r}", hint=f"known: {', '.join(PRECISIONS)}")
    if manifest.precision != "float32":
        raise ExportError(f"{source.path} is {manifest.precision}; want float32 to start from")
    if precision not in find_family(manifest.family).precisions:
        made = [name for name, family in FAMILIES.items() if precision in family.precisions]
        raise ExportError(f"{precision} is not made for {manifest.family}", hint=f"families: {', '.join(made)}")
    if not LEAST_DEVIATION <= allowed <= 1:
        raise ExportError(f"a mean deviation of {allowed} allowed: want {LEAST_DEVIATION} to 1 of the contexts' scale")
    if not adapted:
        raise ExportError("no adapted tensor: nothing could be adapted", hint="name a method with --keep")
    unknown = sorted(set(adapted) - known)
    if unknown:
        raise ExportError(f"no tunable tensor {unknown[0]!r} in {source.path}")
    check_kept(adapter, adapted, precision)


def check_kept(adapter: Collection[str], adapted: Collection[str], precision: str) -> None:
    """Raise `ExportError` where ``adapter`` touches a tensor that is not among the ``adapted`` ones."""
    refused = sorted(set(adapter) - set(adapted))
    if refused:
        raise ExportError(
            f"the adapter touches {refused[0]}"
            + (f" and {len(refused) - 1} other tensors" if refused[1:] else "")
            + f", which would be {precision}",
            hint="name its method with --keep",
        )


def _table(source: Bundle, used: Collection[int], names: list[str]) -> list[int]:
    """Translate a graph's indices in the old tensor table to the new one."""
    return [names.index(source.manifest.tensors[i].name) for i in used if source.manifest.tensors[i].name in names]


def _size(folder: Path) -> int:
    """Return the bytes of a bundle."""
    return sum(file.stat().st_size for file in folder.iterdir())
