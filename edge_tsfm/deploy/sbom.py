"""A CycloneDX bill of materials: the runtime's packages, and each approved adapter as a machine-learning model."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from edge_tsfm.deploy.repository import Repository

RUNTIME = ("edge-tsfm", "numpy", "onnxruntime", "click", "tuf", "securesystemslib", "cryptography")


def sbom_of(repository: Repository) -> str:
    """Return CycloneDX 1.6 JSON."""
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    bom = Bom()
    for name in RUNTIME:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        bom.components.add(Component(name=name, version=found, type=ComponentType.LIBRARY, bom_ref=f"pkg:pypi/{name}"))
    for path, target in sorted(repository.approved().items()):
        custom = target.custom
        bom.components.add(
            Component(
                name=path,
                version=str(custom["sequence"]),
                type=ComponentType.MACHINE_LEARNING_MODEL,
                bom_ref=f"adapter:{target.hashes['sha256']}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=target.hashes["sha256"])],
                properties=[
                    Property(name="edge-tsfm:size", value=str(target.length)),
                    Property(name="edge-tsfm:gate", value=repository.config["gate"]),
                ],
            )
        )
    return str(JsonV1Dot6(bom).output_as_string(indent=1))
