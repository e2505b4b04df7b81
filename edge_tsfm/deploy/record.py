"""The change record: an in-toto Statement (JSON) and the same as a page for people. Refusals get one too."""

from __future__ import annotations

import json
from datetime import datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from device_runtime.adapter import Adapter
from device_runtime.blob import decode
from device_runtime.bundle import Bundle
from device_runtime.files import write_atomic
from edge_tsfm.deploy.gate import Verdict
from edge_tsfm.deploy.signers import digest

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://edge-tsfm.dev/adapter-change/v1"
TOOLS = ("edge-tsfm", "numpy", "onnxruntime", "tuf", "securesystemslib", "cryptography")


def tensors_touched(bundle: Bundle, adapter: Adapter) -> list[dict[str, Any]]:
    """List every tensor the adapter adds to, how many numbers it carries there, and the largest change to a weight."""
    rows = []
    for index, delta in adapter.deltas.items():
        tensor = bundle.manifest.tensors[index]
        change = delta.dense()
        rows.append(
            {
                "tensor": tensor.name,
                "shape": list(tensor.shape),
                "parameters": delta.parameters,
                "max_abs_change": float(abs(change).max()),
            }
        )
    return rows


def frozen_proof(bundle: Bundle, adapter: Adapter) -> dict[str, Any]:
    """Say why nothing else changed: the base's files by hash, and the share of its tensors that is touched."""
    return {
        "base_digest": bundle.digest.hex(),
        "base_files": {name: file.sha256 for name, file in bundle.manifest.files.items()},
        "tensors_in_table": len(bundle.manifest.tensors),
        "tensors_touched": len(adapter.deltas),
        "argument": (
            "The base's manifest pins every file by SHA-256 and is itself named by the adapter. A device merges new "
            "arrays for the tensors listed here and never writes to the base's files, which it checks at every start."
        ),
    }


def statement(
    *,
    name: str,
    signed: bytes | None,
    blob: bytes,
    bundle: Bundle,
    verdict: Verdict,
    gate: str,
    evaluation: dict[str, Any],
    evaluation_digest: str,
    decision: str,
    who: str,
    why: str,
    now: datetime,
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Return the record of one decision about one adapter. ``decision`` is "approved" or "refused"."""
    adapter = decode(blob)
    subject = [{"name": name, "digest": {"sha256": digest(blob)}}]
    if signed is not None:
        subject.append({"name": f"{name} with signatures", "digest": {"sha256": digest(signed)}})
    return {
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "decision": decision,
            "who": who,
            "why": why,
            "at": now.isoformat(),
            "adapter": {
                "version": adapter.version,
                "parameters": adapter.parameters,
                "forced": adapter.forced,
                "metadata": dict(adapter.metadata),
            },
            "gate": {"sha256": gate, "checks": [vars(check) for check in verdict.checks], "passed": verdict.passed},
            "evaluation": {"sha256": evaluation_digest, "data": evaluation.get("data"), "models": evaluation["models"]},
            "tensors": tensors_touched(bundle, adapter),
            "frozen": frozen_proof(bundle, adapter),
            "tools": _tools(),
            **extra,
        },
    }


def _tools() -> dict[str, str]:
    """Return the versions of what made the decision."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


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
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, default=str).encode())
    write_atomic(path.with_suffix(".html"), page(value).encode())
    return path


def page(value: dict[str, Any]) -> str:
    """Return the record as one HTML file that needs nothing else."""
    predicate = value["predicate"]

    def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
        cells = "".join(f"<th>{escape(item)}</th>" for item in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(_text(item))}</td>" for item in row) + "</tr>" for row in rows)
        return f"<table><tr>{cells}</tr>{body}</table>"

    checks = [
        (check["what"], check["got"], check["bound"], "passed" if check["passed"] else "failed", check["note"])
        for check in predicate["gate"]["checks"]
    ]
    tensors = [(t["tensor"], t["shape"], t["parameters"], t["max_abs_change"]) for t in predicate["tensors"]]
    facts = [
        ("Decision", predicate["decision"]),
        ("By", predicate["who"]),
        ("Why", predicate["why"]),
        ("At", predicate["at"]),
        *((item["name"], item["digest"]["sha256"]) for item in value["subject"]),
        ("Base", predicate["frozen"]["base_digest"]),
        ("Gate", predicate["gate"]["sha256"]),
        ("Evaluation", predicate["evaluation"]["sha256"]),
        *((f"Tool {name}", text) for name, text in predicate["tools"].items()),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Adapter change record</title>'
        "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto}td,th{text-align:left;padding:.2em .8em;"
        "border-bottom:1px solid #ccc;vertical-align:top;overflow-wrap:anywhere}</style>"
        f"<h1>Adapter change: {escape(predicate['decision'])}</h1>{table(('', ''), facts)}"
        f"<h2>Gate</h2>{table(('Check', 'Got', 'At most', 'Outcome', ''), checks)}"
        f"<h2>What changes</h2>{table(('Tensor', 'Shape', 'Numbers', 'Largest change of a weight'), tensors)}"
        f"<h2>What does not</h2><p>{escape(predicate['frozen']['argument'])}</p>"
        f"{table(('File of the base', 'SHA-256'), list(predicate['frozen']['base_files'].items()))}</html>"
    )


def _text(value: Any) -> str:
    """Write a cell."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
