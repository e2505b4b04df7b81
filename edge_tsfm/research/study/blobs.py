"""What each method costs to ship: the first seed's blob, exported and proven as any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from device_runtime.errors import DeviceRuntimeError
from device_runtime.files import write_atomic
from device_runtime.forecast.bundle import Bundle
from edge_tsfm.methods import find_method
from edge_tsfm.models import load_base
from edge_tsfm.models.biases import with_added_biases
from edge_tsfm.research.study.cells import Cell
from edge_tsfm.runs.export import export_run
from edge_tsfm.runs.record import RUN_FILE
from edge_tsfm.runs.run import load_run
from export import export_base
from export.errors import ExportError

BLOB_FILE = "adapter.etsa"


def export_blobs(cells: Sequence[Cell], out: Path, *, seed: int) -> tuple[dict[str, int], list[str]]:
    """Write a bundle for each base and a blob for each exportable cell of ``seed`` that has none yet.

    Returns a cell's folder → bytes, and what could not be exported, in words: a study's figures do not depend on it.
    """
    sizes: dict[str, int] = {}
    notes: list[str] = []
    refused: set[tuple[str, bool]] = set()
    for cell in cells:
        folder = out / cell.folder
        exportable = cell.kind == "adapter" and find_method(cell.config.method).exportable
        added = cell.config.biases == "added"
        if (
            cell.config.seed != seed
            or not exportable
            or (cell.base, added) in refused
            or not (folder / RUN_FILE).exists()
        ):
            continue
        path = folder / BLOB_FILE
        if not path.exists():
            try:
                bundle = base_bundle(cell.base, out, added_biases=added)
            except (ExportError, DeviceRuntimeError) as error:
                refused.add((cell.base, added))
                notes.append(f"no bundle of {cell.base}: {error}")
                continue
            try:
                write_atomic(path, export_run(load_run(folder), bundle).blob)
            except (ExportError, DeviceRuntimeError) as error:
                notes.append(f"no blob of {cell.folder}: {error}")
                continue
        sizes[cell.folder] = path.stat().st_size
    return sizes, notes


def base_bundle(source: str, out: Path, *, added_biases: bool = False) -> Bundle:
    """Open a base's bundle, written first where there is none."""
    folder = out / "bundles" / (Path(source).name + ("-added-biases" if added_biases else ""))
    if not folder.exists():
        base = load_base(source)
        if added_biases:
            base = with_added_biases(base)
        export_base(
            base.model,
            family=base.family,
            name=base.bundle_name,
            out=folder,
            provenance=base.provenance,
        )
    return Bundle.open(folder)
