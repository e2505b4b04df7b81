"""A CycloneDX bill of materials: the runtime's packages, the bases, and each approved adapter as a model.

The library writes components, hashes and dependencies; it has no model cards yet, so those are added to its JSON.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, metadata, version
from typing import TYPE_CHECKING, Any

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.format.blob import blob_size, decode
from edge_tsfm.deploy.acts import acts
from edge_tsfm.deploy.evidence import RecordFile
from edge_tsfm.deploy.ledger import Ring, read_ring
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.signers import digest
from edge_tsfm.errors import DataError

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

RUNTIME = (
    "edge-tsfm",
    "edge-tsfm-device",
    "numpy",
    "onnxruntime",
    "click",
    "tuf",
    "securesystemslib",
    "cryptography",
    "urllib3",
)


def sbom_of(repository: Repository) -> str:
    """Return CycloneDX 1.6 JSON."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    bom = Bom()
    packages = {name: one for name in RUNTIME if (one := _package(name))}
    bom.metadata.timestamp = repository.now
    bom.metadata.component = packages.pop("edge-tsfm")
    bom.components.update(packages.values())
    bases: dict[str, Component] = {}
    records = _records(repository)
    cards = {}
    for path, target in sorted(repository.approved().items()):
        if not path.endswith(".etsa"):
            continue  # an envelope of adaptation is no adapter
        data = repository.target_bytes(target)
        blob = data[: blob_size(data)]
        base = decode(blob).base_digest.hex()
        bases.setdefault(base, _base(base))
        file = target.hashes["sha256"]
        ring = read_ring(repository, path.split("/")[1])
        gone = _taken_back(repository, ring, file)
        adapter = _adapter(repository, path, target, digest(blob), gone)
        bom.components.add(adapter)
        bom.register_dependency(adapter, [bases[base]])
        if file in records:
            cards[str(adapter.bom_ref.value)] = _card(records[file], gone)
    bom.components.update(bases.values())
    bom.register_dependency(bom.metadata.component, list(packages.values()))
    value = json.loads(JsonV1Dot6(bom).output_as_string())
    for component in value["components"]:
        if card := cards.get(component["bom-ref"]):
            component["modelCard"] = card
    return json.dumps(value, indent=1)


def _package(name: str) -> Component | None:
    """Describe an installed package; None where it is not installed."""
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    try:
        found = version(name)
        summary = metadata(name)["Summary"]
    except PackageNotFoundError:
        return None
    url = PackageURL("pypi", name=name, version=found)
    kind = ComponentType.APPLICATION if name == "edge-tsfm" else ComponentType.LIBRARY
    return Component(name=name, version=found, type=kind, bom_ref=str(url), purl=url, description=summary)


def _base(digest: str) -> Component:
    """Describe a frozen base by its manifest's digest."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name=f"base {digest[:16]}",
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"base:{digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        description="frozen base model; the hash is of its manifest, which pins every file",
    )


def _taken_back(repository: Repository, ring: Ring, file: str) -> str:
    """Say when and why an approved signed file was revoked, as its record says; empty for one that monitors may run."""
    if ring.live(file):
        return ""
    for act in reversed(acts(repository, ring.name, "revoke")):
        if any(one.signed_file == file for one in act.adapters):
            return f"revoked at {act.at} by {act.who}: {act.why}"
    return "revoked" if file in ring.revoked else f"below the security minimum {ring.security_minimum}"


def _adapter(repository: Repository, path: str, target: Any, name: str, gone: str) -> Component:
    """Describe an approved adapter, or one that was ``gone`` since; ``name`` is the SHA-256 of its blob."""
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    ring = path.split("/")[1]
    return Component(
        name=f"adapter {name[:16]} for {ring}",
        version=str(target.custom["sequence"]),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        # One blob may be approved for several rings: a reference must be unique.
        bom_ref=f"adapter:{ring}:{name}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=name)],
        description=gone or "approved",
        properties=[
            Property(name="edge-tsfm:status", value="revoked" if gone else "approved"),
            *([Property(name="edge-tsfm:revocation", value=gone)] if gone else []),
            Property(name="edge-tsfm:channel", value=ring),
            Property(name="edge-tsfm:signed-file", value=target.hashes["sha256"]),
            Property(name="edge-tsfm:size", value=str(target.length)),
            Property(name="edge-tsfm:gate", value=repository.config["gate"]),
        ],
    )


def _records(repository: Repository) -> dict[str, dict[str, Any]]:
    """Return the record of each approval, by the signed file's hash."""
    found = {}
    for path in sorted((repository.folder / "records").glob("*-approved*.json")):
        value = read_json(path, error=DataError)
        record = bind(RecordFile, value, str(path), error=DataError, ignore_unknown=True)
        found[record.file] = value["predicate"]
    return found


def _card(predicate: dict[str, Any], gone: str) -> dict[str, Any]:
    """Return a model card: what the model does, what it was judged on, how it did, and whether it is taken back."""
    evaluation = predicate["evaluation"]
    metrics = [
        {"type": metric, "slice": name, "value": f"{figure['value']:.6g}"}
        for name in ("adapter", "base")
        for metric, figure in evaluation["models"].get(name, {}).items()
        if isinstance(figure.get("value"), int | float)
    ]
    data = evaluation.get("data") or {}
    described = [
        {"type": "dataset", "name": str(data.get("channel", "evaluation")), "classification": "evaluation",
         "contents": {"properties": [{"name": "sha256", "value": str(data["fingerprint"])}]}}
    ] if data.get("fingerprint") else []  # fmt: skip
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "time-series forecasting",
            "modelArchitecture": f"{predicate['frozen']['base']} with an adapter of "
            f"{predicate['adapter']['parameters']} parameters on {predicate['frozen']['tensors_touched']} tensors",
            **({"datasets": described} if described else {}),
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics},
        **({"considerations": {"technicalLimitations": [f"Not to be used: {gone}."]}} if gone else {}),
    }
