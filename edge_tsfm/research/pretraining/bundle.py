"""Make a finished run one of the bases that ship with the package: its files, and its pinned digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from device_runtime.binder import bind_value
from device_runtime.documents import read_json
from device_runtime.files import write_atomic
from edge_tsfm.errors import ModelError

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "bundled"
FILES = ("config.json", "model.safetensors")


def bundle_base(source: Path, name: str, *, bundled: Path = BUNDLED) -> str:
    """Copy a base's two files to ``bundled/NAME`` and pin the weights' digest, which is returned (hex).

    Raises:
        ModelError: ``source`` is no finished base.
    """
    missing = [file for file in FILES if not (source / file).exists()]
    if missing:
        raise ModelError(f"{source} has no {missing[0]}", hint="give the base/ or a snapshots/ folder of a run")
    folder = bundled / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        write_atomic(folder / file, (source / file).read_bytes())
    digest = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    pinned = bundled / "digests.json"
    known = read_json(pinned, error=ModelError) if pinned.exists() else {}
    digests = dict(bind_value(Mapping[str, str], known, str(pinned), error=ModelError))
    digests[name] = digest
    write_atomic(pinned, (json.dumps(digests, indent=2, sort_keys=True) + "\n").encode())
    return digest
