"""A publisher and monitors around the dummy bundle: what the update tests share."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import blob as blobs
from device_runtime.format.binding import Binding
from device_runtime.format.delta import Delta, Dense, Numbers
from device_runtime.update.settings import DeviceConfig, read_config
from edge_tsfm.deploy.approve import Approval, approve
from edge_tsfm.deploy.controller import Stage
from edge_tsfm.deploy.ledger import describe
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.setup import device_settings, init, keygen

BASES = Path(__file__).resolve().parents[1] / "dummy_bases"
BUNDLE = BASES / "chronos-bolt-bundle"
GATE = """
name = "test"
[[bound]]
metric = "wql"
vs_base_percent = -1.0
vs_field_percent = 2.0
subgroup_percent = 5.0
"""
WEIGHTS = json.loads((BUNDLE / "bundle.json").read_bytes())["base"]["weights"]
RUN = "5" * 64  # digest of the tuned parameters that every adapter here says it was exported from
BINDING = Binding.of("MAP", interval_us=3_600_000_000, context_length=48, prediction_length=6)
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
EVERYBODY = (Stage(permille=1000, soak_hours=0.0, max_failures=100, max_failure_percent=100.0),)


def adapter_blob(version: int, *, seed: int = 0, wrong: bool = False) -> bytes:
    """A good adapter of the dummy base; ``wrong`` moves its known answer, so that a device refuses it."""
    adapter = blobs.decode((BASES / "chronos-bolt.etsa").read_bytes())
    answer = adapter.known_answer
    assert answer is not None
    if wrong:
        answer = dataclasses.replace(answer, expected=answer.expected + 100 * answer.tolerance)
    metadata = {**adapter.metadata, "note": f"seed {seed}", "run": RUN[:16]}
    return blobs.encode(
        dataclasses.replace(adapter, version=version, known_answer=answer, metadata=metadata, binding=BINDING)
    )


def scaled_blob(good: bytes, factor: float, bundle: Path, *, tensor: int | None = None) -> bytes:
    """An adapter with one tensor's delta scaled, or all: whole, proven on its base, and another forecaster."""
    adapter = blobs.decode(good)
    deltas = {
        number: _scaled(delta, factor) if tensor in (None, number) else delta
        for number, delta in adapter.deltas.items()
    }
    answer = adapter.known_answer
    assert answer is not None
    unproven = dataclasses.replace(adapter, deltas=deltas, known_answer=None)
    forecaster = Forecaster.open(bundle, blobs.encode(unproven), allow_unproven=True)
    expected = forecaster._model.probe(answer.context, len(answer.expected))
    return blobs.encode(dataclasses.replace(unproven, known_answer=dataclasses.replace(answer, expected=expected)))


def _scaled(delta: Delta, factor: float) -> Delta:
    """A delta with its coefficients scaled."""
    if isinstance(delta, Dense):
        return Dense(Numbers.of(delta.numbers.values * np.float32(factor)))
    return dataclasses.replace(delta, scaling=delta.scaling * factor)  # type: ignore[attr-defined]


def evaluation(adapter: float = 0.9, *, base: float = 1.0, high: float = -0.01, **extra: Any) -> dict[str, Any]:
    """What ``edge-tsfm evaluate --json`` writes, as far as the gate reads it."""
    return {
        "run": {"numbers": RUN, "training_data": "d" * 64, "base": {"digest": WEIGHTS}},
        "data": {
            "split": "test",
            "trained_items": 0,
            "channel": "MAP",
            "interval": "1h",
            "source": "ward.csv",
            "fingerprint": "d" * 64,
        },
        "windows": 100,
        "patients": 40,
        "scored": 600,
        "models": {"adapter": {"wql": {"value": adapter}}, "base": {"wql": {"value": base}}},
        "adapter_minus_base": {"wql": {"value": adapter - base, "low": -0.2, "high": high}},
        "subgroups": {},
        **extra,
    }  # fmt: skip


def write_json(path: Path, value: Any) -> Path:
    """Write a value."""
    path.write_text(json.dumps(value))
    return path


def make_repository(folder: Path, *, now: datetime = NOW) -> Repository:
    """Keys, gate and an empty repository."""
    keygen(folder / "keys")
    gate = folder / "gate.toml"
    gate.write_text(GATE)
    repository = init(folder / "repository", folder / "keys", gate, now=now)
    describe(repository, "icu", signal="MAP", interval="1h")
    return repository


def approve_version(
    repository: Repository,
    version: int,
    *,
    ring: str = "icu",
    figures: dict[str, Any] | None = None,
    seed: int = 0,
    blob: bytes | None = None,
) -> Approval:
    """Approve an adapter, a good one unless it is given, judged better than base and field."""
    folder = repository.folder.parent
    path = folder / f"adapter-{version}.etsa"
    path.write_bytes(adapter_blob(version, seed=seed) if blob is None else blob)
    judged = write_json(folder / "evaluation.json", figures or evaluation())
    field = write_json(folder / "field.json", evaluation())
    return approve(repository, path, bundle=BUNDLE, ring=ring, evaluation=judged, field_evaluation=field, who="quality")


def make_device(folder: Path, repository: Repository, device_id: str, *, url: str | None = None) -> DeviceConfig:
    """A monitor enrolled with a repository."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = device_settings(
        repository, ring="icu", device_id=device_id, url=url or str(repository.folder / "public")
    )
    (folder / "device.toml").write_text(
        settings.replace('"bundle"', f'"{BUNDLE}"') + f'report_to = "{folder.parent / "reports"}"\n'
    )
    (folder / "root.json").write_bytes((repository.metadata / "1.root.json").read_bytes())
    return read_config(folder / "device.toml")
