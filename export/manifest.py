"""A bundle's manifest as it is written: also what the runtime does not need. Needs neither torch nor onnx."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from device_runtime.files import read_bounded
from device_runtime.forecast.bundle import Bundle
from device_runtime.format.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE

RUN = re.compile("[0-9a-f]{16,64}")  # a run's digest as `export adapter` writes it; fewer digits bind nothing


def names_run(metadata: Mapping[str, Any], digest: object) -> bool:
    """Return whether an adapter's metadata name the run whose tuned parameters have this ``digest``.

    Self-declared, not authenticated.
    """
    made = metadata.get("run")
    return bool(isinstance(made, str) and RUN.fullmatch(made) and isinstance(digest, str) and digest.startswith(made))


def read_manifest(bundle: Bundle) -> dict[str, Any]:
    """Return every field of a bundle's manifest."""
    return dict(json.loads(read_bounded(bundle.path / MANIFEST_FILE, MAX_MANIFEST_SIZE)))


def exported_weights(bundle: Bundle) -> str:
    """Return the digest of the weights that ``bundle`` was exported from, empty where its exporter gave none."""
    base = read_manifest(bundle).get("base")
    return str(base.get("weights", "")) if isinstance(base, dict) else ""
