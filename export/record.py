"""A bundle's manifest as it is written: also what the runtime does not need. Needs neither torch nor onnx."""

from __future__ import annotations

import json
from typing import Any

from device_runtime.bundle import Bundle
from device_runtime.files import read_bounded
from device_runtime.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE


def read_manifest(bundle: Bundle) -> dict[str, Any]:
    """Return every field of a bundle's manifest."""
    return dict(json.loads(read_bounded(bundle.path / MANIFEST_FILE, MAX_MANIFEST_SIZE)))


def exported_weights(bundle: Bundle) -> str:
    """Return the digest of the weights that ``bundle`` was exported from, empty where its exporter gave none."""
    return str(read_manifest(bundle).get("base", {}).get("weights", ""))
