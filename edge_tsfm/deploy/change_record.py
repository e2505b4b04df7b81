"""The change record: an in-toto Statement of one decision about one adapter. Refusals get one too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.files import write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.merge import merge
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import decode
from edge_tsfm.deploy.acceptance import Acceptance
from edge_tsfm.deploy.signers import digest
from edge_tsfm.report.change_record import act_page, page

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://edge-tsfm.dev/adapter-change/v1"
TOOLS = ("edge-tsfm", "numpy", "onnxruntime", "tuf", "securesystemslib", "cryptography")
EVALUATED = (
    "verdict", "run", "data", "device", "notes", "bootstrap", "windows", "patients", "scored", "models",
    "adapter_minus_base", "adapter_minus_device", "adapter_minus_calibrated", "subgroups", "versions",
)  # fmt: skip


def tensors_touched(bundle: Bundle, adapter: Adapter, merged: dict[int, NDArray[np.float32]]) -> list[dict[str, Any]]:
    """List every tensor the adapter adds to: its numbers there, and the tensor before and after the merge."""
    rows = []
    for index, delta in adapter.deltas.items():
        entry, before = bundle.manifest.tensors[index], bundle.tensor(index)
        change = merged[index].astype(np.float64) - before
        rows.append(
            {
                "tensor": entry.name,
                "shape": list(entry.shape),
                "parameters": delta.parameters,
                "weights_changed": int(np.count_nonzero(change)),
                "max_abs_change": float(np.abs(change).max()),
                "relative_change": float(np.linalg.norm(change) / (np.linalg.norm(before) or 1.0)),
                "sha256_before": _sha256(before),
                "sha256_after": _sha256(merged[index]),
            }
        )
    return rows


def frozen_proof(bundle: Bundle, adapter: Adapter, merged: dict[int, NDArray[np.float32]]) -> dict[str, Any]:
    """Show that nothing else changes: the merge was run, and every tensor and file that it leaves alone is named.

    The files' hashes were computed from the bytes on disk when the bundle was opened, and are those of the manifest
    that the adapter names.
    """
    manifest = bundle.manifest
    if merged.keys() != adapter.deltas.keys():
        raise AssertionError("the merge gave other tensors than the adapter names")
    return {
        "base": manifest.name,
        "base_digest": bundle.digest.hex(),
        "base_files": {name: file.sha256 for name, file in manifest.files.items()},
        "tensors_in_table": len(manifest.tensors),
        "tensors_touched": len(merged),
        "tensors_untouched": {
            entry.name: _sha256(bundle.tensor(index))
            for index, entry in enumerate(manifest.tensors)
            if index not in merged
        },
        "argument": (
            "The manifest of the base pins each of its files by SHA-256, was compared with the bytes on disk for this "
            "record, and is itself named by the adapter. The merge of this adapter gave new arrays for the tensors "
            "listed under “What changes” and for no other; every other tensor and file of the base goes to the model "
            "as it is. A device checks all of this at every start and refuses an adapter that names another base."
        ),
    }


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is decided on, by whom and on what evidence."""

    name: str  # of the adapter's file
    ring: str
    blob: bytes
    bundle: Bundle
    acceptance: Acceptance
    gate: str  # SHA-256 of the pinned one
    judged: str  # the evaluation's forecaster that the gate compared
    evaluation: dict[str, Any]
    evaluation_digest: str
    field: dict[str, Any] | None  # the adapter it was compared with; None: none was in the field
    who: str
    why: str
    now: datetime
    training_data: str | None


def statement(
    case: Case, *, decision: str, signed: bytes | None = None, approvals: Mapping[str, list[str]] | None = None
) -> dict[str, Any]:
    """Return the record of one decision about one adapter: "approved", with the ``signed`` file, or "refused".

    ``approvals`` is role to the ids of the keys that signed.
    """
    adapter = decode(case.blob)
    subject = [{"name": case.name, "digest": {"sha256": digest(case.blob)}}]
    if signed is not None:
        subject.append({"name": f"{case.name}, signed file", "digest": {"sha256": digest(signed)}})
    merged = merge(case.bundle.manifest, case.bundle.tensor, adapter)
    checks = [{**vars(check), "outcome": check.sentence} for check in case.acceptance.checks]
    return {
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "decision": decision,
            "channel": case.ring,
            "who": case.who,
            "why": case.why,
            "at": case.now.isoformat(),
            "adapter": {
                "version": adapter.version,
                "parameters": adapter.parameters,
                "forced": adapter.forced,
                "calibrated": adapter.calibration is not None,
                "for": adapter.binding and adapter.binding.to_dict(),
                "metadata": dict(adapter.metadata),
            },
            "in_the_field": case.field,
            "gate": {"sha256": case.gate, "judged": case.judged, "checks": checks, "passed": case.acceptance.passed},
            "evaluation": {
                "sha256": case.evaluation_digest,
                **{key: case.evaluation[key] for key in EVALUATED if key in case.evaluation},
            },
            "training_data": {"sha256": case.training_data or _fingerprint(case.evaluation)},
            "tensors": tensors_touched(case.bundle, adapter, merged),
            "frozen": frozen_proof(case.bundle, adapter, merged),
            "approvals": dict(approvals or {}),
            "tools": tool_versions(),
        },
    }


def write_record(folder: Path, value: dict[str, Any]) -> Path:
    """Write a record as JSON and as a page; the name says when, what and how it ended. Returns the JSON's path."""
    predicate = value["predicate"]
    stamp = predicate["at"].replace(":", "").replace("-", "")[:15]
    stem = f"{stamp}-{value['subject'][0]['digest']['sha256'][:12]}-{predicate['decision']}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.json"
    number = 1
    while path.exists():  # a record is never overwritten
        number += 1
        path = folder / f"{stem}-{number}.json"
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True).encode())
    layout = page if "gate" in predicate else act_page
    write_atomic(path.with_suffix(".html"), layout(value).encode())
    return path


def _fingerprint(evaluation: dict[str, Any]) -> str | None:
    """Return the hash of the rows the run was trained on, as the evaluation names it."""
    run = evaluation.get("run")
    found = run.get("training_data") if isinstance(run, dict) else None
    return found if isinstance(found, str) else None


def _sha256(array: NDArray[np.float32]) -> str:
    """Hash a tensor's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def tool_versions() -> dict[str, str]:
    """Return the versions of what made a decision."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
