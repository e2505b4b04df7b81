"""Approving an adapter for a channel: judge, record, sign, name it in the approved role."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from device_runtime.blob import blob_size, decode
from device_runtime.bundle import Bundle
from device_runtime.files import read_bounded, write_atomic
from device_runtime.rollout import NAME, adapter_target
from device_runtime.slots import MAX_FILE_SIZE
from edge_tsfm.deploy.gate import judge, read_evaluation, read_gate
from edge_tsfm.deploy.record import statement, write_record
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.signers import digest, sign_blob
from edge_tsfm.errors import DeployError, GateRefusedError

MAX_REVOKED = 32  # listed for each channel; beyond, raise the security minimum


@dataclass(frozen=True, kw_only=True)
class Channel:
    """What a channel's devices have been told so far."""

    name: str
    sequence: int = -1  # highest ever given
    revoked: tuple[str, ...] = ()
    security_minimum: int = 0
    sequences: dict[str, int] = field(default_factory=dict)  # SHA-256 of file -> its sequence now
    versions: dict[str, int] = field(default_factory=dict)  # SHA-256 of file -> the blob's version

    def find(self, prefix: str) -> str:
        """Return the one approved file whose digest starts with ``prefix``. Raises `DeployError`."""
        found = [file for file in self.sequences if file.startswith(prefix)]
        if len(found) != 1 or len(prefix) < 4:
            raise DeployError(
                f"channel {self.name}: {len(found)} approved adapters start with {prefix!r}, want 1",
                hint=", ".join(file[:16] for file in self.sequences) or "edge-tsfm deploy approve",
            )
        return found[0]


def read_channel(repository: Repository, name: str) -> Channel:
    """Read a channel; a new one is empty. Raises `DeployError` for a name no device accepts."""
    if not NAME.fullmatch(name):
        raise DeployError(f"channel {name!r}: want a-z, 0-9 and -, at most 63")
    path = repository.folder / "channels" / f"{name}.json"
    if not path.exists():
        return Channel(name=name)
    value = json.loads(path.read_bytes())
    return Channel(**{**value, "revoked": tuple(value["revoked"])})


def write_channel(repository: Repository, channel: Channel) -> None:
    """Write a channel."""
    folder = repository.folder / "channels"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{channel.name}.json", json.dumps(asdict(channel), indent=1, sort_keys=True).encode())


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What was approved."""

    channel: str
    file: str  # SHA-256 of the signed file, hex
    adapter: str  # SHA-256 of the blob, hex
    version: int
    sequence: int
    size: int  # bytes, signed
    record: str  # where the change record is


def approve(
    repository: Repository,
    adapter: Path,
    *,
    bundle: Path,
    channel: str,
    evaluation: Path,
    field_evaluation: Path | None = None,
    who: str,
    why: str = "",
    extra: dict[str, Any] | None = None,
) -> Approval:
    """Judge an adapter by the pinned gate; sign and list it when it passes. Devices see nothing until `publish`.

    Raises `GateRefusedError` (a refusal is recorded), `DeployError` when no device could follow.
    """
    data = read_bounded(adapter, MAX_FILE_SIZE)
    blob = data[: blob_size(data)]
    decoded = decode(blob)
    opened = Bundle.open(bundle)
    if decoded.base_digest != opened.digest:
        raise DeployError(f"{adapter} is for base {decoded.base_digest.hex()[:16]}, {bundle} is another")
    _prove(opened, blob)
    known = read_channel(repository, channel)
    if decoded.version <= known.sequence:
        raise DeployError(
            f"{adapter} has version {decoded.version}; channel {channel} is at sequence {known.sequence}: "
            "devices would refuse it",
            hint=f"edge-tsfm export adapter … --adapter-version {known.sequence + 1}",
        )
    gate = repository.folder / "gates" / f"{repository.config['gate']}.toml"
    pinned = repository.load("targets").signed.unrecognized_fields.get("x-gate")
    bounds = read_gate(read_bounded(gate, 65_536), gate)
    if digest(gate.read_bytes()) != pinned:
        raise DeployError(f"{gate} is not the gate that the targets role pins ({str(pinned)[:16]})")
    judged = read_evaluation(evaluation)
    verdict = judge(
        bounds,
        judged,
        read_evaluation(field_evaluation) if field_evaluation else None,
        first=not known.sequences,
    )
    facts: dict[str, Any] = {
        "name": adapter.name, "blob": blob, "bundle": opened, "verdict": verdict, "gate": pinned,
        "evaluation": judged, "evaluation_digest": digest(evaluation.read_bytes()), "who": who, "why": why,
        "now": repository.now, "extra": {"channel": channel, **(extra or {})},
    }  # fmt: skip
    if not verdict.passed or decoded.forced:
        path = write_record(repository.folder / "records", statement(signed=None, decision="refused", **facts))
        reasons = [f"{check.what}: {check.got}, at most {check.bound}" for check in verdict.checks if not check.passed]
        reasons += ["the blob says it was accepted by hand (forced)"] if decoded.forced else []
        raise GateRefusedError("the gate refuses it: " + "; ".join(reasons), hint=f"recorded in {path}")
    signed = sign_blob(blob, repository.refs("adapter"), repository.keys, repository.threshold("adapter"))
    file = digest(signed)
    target = repository.put_target(adapter_target(channel, file), signed)
    sequence = decoded.version
    after = replace(
        known,
        sequence=sequence,
        sequences={**known.sequences, file: sequence},
        versions={**known.versions, file: decoded.version},
    )
    _list(repository, target, after, file)
    path = write_record(repository.folder / "records", statement(signed=signed, decision="approved", **facts))
    write_channel(repository, after)
    return Approval(
        channel=channel, file=file, adapter=digest(blob), version=decoded.version, sequence=sequence,
        size=len(signed), record=str(path),
    )  # fmt: skip


def relist(repository: Repository, channel: Channel, file: str) -> Channel:
    """Approve a file again under the next sequence: an authorised downgrade. Returns the channel after it."""
    if file in channel.revoked:
        raise DeployError(f"{file[:16]} is revoked: devices would refuse it", hint="choose another adapter")
    sequence = channel.sequence + 1
    after = replace(channel, sequence=sequence, sequences={**channel.sequences, file: sequence})
    target = repository.approved()[adapter_target(channel.name, file)]
    _list(repository, target, after, file)
    write_channel(repository, after)
    return after


def revoke(repository: Repository, channel: Channel, file: str, *, offered: str | None, older: bool) -> Channel:
    """Revoke a file, and with ``older`` everything approved before it; devices learn it from what is ``offered``.

    Raises `DeployError` when nothing is offered: no device would look.
    """
    if offered is None:
        raise DeployError(f"nothing is rolled out on channel {channel.name}: no device has an adapter from it")
    revoked = tuple(dict.fromkeys((*channel.revoked, file)))
    if len(revoked) > MAX_REVOKED:
        raise DeployError(f"{len(revoked)} revoked files: want at most {MAX_REVOKED}", hint="--older")
    minimum = max(channel.security_minimum, channel.sequences[file] + 1) if older else channel.security_minimum
    after = replace(channel, revoked=revoked, security_minimum=minimum)
    _list(repository, repository.approved()[adapter_target(channel.name, offered)], after, offered)
    write_channel(repository, after)
    return after


def _list(repository: Repository, target: Any, channel: Channel, file: str) -> None:
    """Name a target in the approved role, with what devices need to know about its channel."""
    target.unrecognized_fields["custom"] = {
        "sequence": channel.sequences[file],
        "revoked": list(channel.revoked),
        "security_minimum": channel.security_minimum,
    }
    repository.approve_target(target)


def _prove(bundle: Bundle, blob: bytes) -> None:
    """Run the known-answer test as a device would: what fails here would fail there."""
    from device_runtime.forecaster import Forecaster

    if decode(blob).known_answer is None:
        raise DeployError("the adapter has no known-answer test: a device could not prove its merge")
    Forecaster.open(bundle, blob)
