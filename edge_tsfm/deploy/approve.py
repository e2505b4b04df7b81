"""Approving an adapter for a ring: judge, sign, name it in the approved role, record. Refusals are recorded too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device_runtime.files import about, read_bounded
from device_runtime.forecast.bundle import Bundle
from device_runtime.format.adapter import Adapter
from device_runtime.format.binding import check, require_said
from device_runtime.format.blob import blob_size, decode
from device_runtime.series.signals import find_signal
from device_runtime.update.rollout import adapter_target
from device_runtime.update.slots import MAX_FILE_SIZE
from edge_tsfm.deploy.acceptance import Acceptance, Gate, check_bounds, read_evaluation, read_gate
from edge_tsfm.deploy.change_record import Case, statement, write_record
from edge_tsfm.deploy.ledger import Ring, in_the_field, read_ring, write_ring
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.signers import digest, sign_blob
from edge_tsfm.errors import DeployError, GateRefusedError
from export.manifest import exported_weights, names_run

MAX_REVOKED = 32  # listed for each ring; beyond, raise the security minimum


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What was approved."""

    ring: str
    adapter: str  # SHA-256 of the blob, hex: its name everywhere
    file: str  # SHA-256 of the signed file, hex
    version: int
    sequence: int
    size: int  # bytes, signed
    record: str  # where the change record is


def approve(
    repository: Repository,
    adapter: Path,
    *,
    bundle: Path,
    ring: str,
    evaluation: Path,
    field_evaluation: Path | None = None,
    who: str,
    why: str = "",
    data_digest: str | None = None,
) -> Approval:
    """Judge an adapter by the pinned gate; sign and list it when it passes. Devices see nothing until `publish`.

    Raises `GateRefusedError` (a refusal is recorded), `DeployError` when no device could follow.
    """
    data = read_bounded(adapter, MAX_FILE_SIZE)
    with about(adapter):
        blob = data[: blob_size(data)]
        decoded = decode(blob)
    opened = Bundle.open(bundle)
    if decoded.base_digest != opened.digest:
        raise DeployError(f"{adapter} is for base {decoded.base_digest.hex()[:16]}, {bundle} is another")
    _prove(opened, blob)
    known = read_ring(repository, ring)
    _check_signal(known, decoded, str(adapter))
    if decoded.version <= known.sequence:
        raise DeployError(
            f"{adapter} has version {decoded.version}; ring {ring} is at sequence {known.sequence}: "
            "devices would refuse it",
            hint=f"edge-tsfm export adapter … --adapter-version {known.sequence + 1}",
        )
    gate, gate_digest = _pinned_gate(repository)
    judged, judged_bytes = read_evaluation(evaluation)
    _check_subject(judged, decoded, blob, exported_weights(opened), str(evaluation))
    _check_judged_signal(known, judged, str(evaluation))
    field = _Field.of(repository, known, field_evaluation)
    name = _judged_as(judged, decoded, opened, str(evaluation))
    acceptance = check_bounds(gate, judged, field.evaluation, first=field.file is None, name=name)
    case = Case(
        name=adapter.name, ring=ring, blob=blob, bundle=opened, acceptance=acceptance, gate=gate_digest, judged=name,
        evaluation=judged, evaluation_digest=digest(judged_bytes), field=field.facts, who=who, why=why,
        now=repository.now, training_data=data_digest,
    )  # fmt: skip
    if not acceptance.passed or decoded.forced:
        path = write_record(repository.folder / "records", statement(case, decision="refused"))
        raise GateRefusedError(f"the gate refuses it: {_reasons(acceptance, decoded)}", hint=f"recorded in {path}")
    return _sign(repository, known, case, decoded.version)


def _sign(repository: Repository, known: Ring, case: Case, version: int) -> Approval:
    """Sign and list what passed, record it, and count the ring's sequence up."""
    signed, signed_by = sign_blob(case.blob, repository.signers("adapter"), repository.threshold("adapter"))
    adapter, file = digest(case.blob), digest(signed)
    target = repository.put_target(adapter_target(case.ring, file), signed)
    after = replace(
        known,
        sequence=version,
        sequences={**known.sequences, file: version},
        versions={**known.versions, file: version},
        adapters={**known.adapters, file: adapter},
    )
    role, listed_by = list_target(repository, target, version)
    approvals = {"adapter": signed_by, role: listed_by}
    path = write_record(
        repository.folder / "records", statement(case, decision="approved", signed=signed, approvals=approvals)
    )
    write_ring(repository, after)
    return Approval(
        ring=case.ring, adapter=adapter, file=file, version=version, sequence=version,
        size=len(signed), record=str(path),
    )  # fmt: skip


def relist(repository: Repository, ring: Ring, file: str) -> Ring:
    """Approve a file again under the next sequence: an authorised downgrade. Returns the ring after it."""
    if not ring.live(file):
        raise DeployError(f"{ring.called(file)} is revoked: devices would refuse it", hint="choose another adapter")
    sequence = ring.sequence + 1
    after = replace(ring, sequence=sequence, sequences={**ring.sequences, file: sequence})
    list_target(repository, repository.approved()[adapter_target(ring.name, file)], sequence)
    write_ring(repository, after)
    return after


def revoke(repository: Repository, ring: Ring, file: str, *, older: bool) -> Ring:
    """Revoke a file, and with ``older`` everything approved before it. Returns the ring after it."""
    minimum = max(ring.security_minimum, ring.sequences[file] + 1) if older else ring.security_minimum
    covered = {known for known, sequence in ring.sequences.items() if sequence < minimum}
    # The minimum speaks for what lies below it.
    revoked = tuple(dict.fromkeys((*(known for known in ring.revoked if known not in covered), file)))
    if len(revoked) > MAX_REVOKED:
        raise DeployError(
            f"{len(revoked)} revoked files: want at most {MAX_REVOKED}", hint="--older: a minimum in place of a list"
        )
    repository.set_revocations(ring.name, revoked, minimum)
    after = replace(ring, revoked=tuple(dict.fromkeys((*ring.revoked, file))), security_minimum=minimum)
    write_ring(repository, after)
    return after


@dataclass(frozen=True, kw_only=True)
class _Field:
    """The adapter now in the field, and its evaluation."""

    file: str | None = None
    evaluation: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None

    @classmethod
    def of(cls, repository: Repository, ring: Ring, path: Path | None) -> _Field:
        """Find out what a ring's monitors run, and read its evaluation. Raises `DeployError`."""
        file = in_the_field(repository, ring)
        if file is None:
            return cls()
        blob = repository.target_bytes(repository.approved()[adapter_target(ring.name, file)])
        blob = blob[: blob_size(blob)]
        facts = {"adapter": digest(blob), "signed_file": file, "sequence": ring.sequences[file]}
        if path is None:
            return cls(file=file, facts=facts)
        evaluation, data = read_evaluation(path)
        _check_subject(evaluation, decode(blob), blob, None, str(path))
        return cls(
            file=file, evaluation=evaluation, facts={**facts, "sha256": digest(data), "models": evaluation["models"]}
        )


def _check_subject(evaluation: dict[str, Any], adapter: Adapter, blob: bytes, weights: str | None, where: str) -> None:
    """Refuse an evaluation of other numbers, on another base, or on patients that say nothing. Raises `DeployError`."""
    run = _object(evaluation, "run")
    made = adapter.metadata.get("run")
    if not names_run(adapter.metadata, run.get("numbers")):
        raise DeployError(
            f"{where} is of run {str(run.get('numbers'))[:16]}, the adapter was exported from run {made}",
            hint="edge-tsfm evaluate RUN --json of the run that `export adapter` wrote the blob from",
        )
    base = _object(run, "base").get("digest")
    if weights is not None and base != weights:
        raise DeployError(f"{where} is on base weights {str(base)[:16]}, the bundle has {weights[:16]}")
    data = _object(evaluation, "data")
    split, trained = data.get("split"), data.get("trained_items")
    if split not in ("test", "all") or trained != 0:
        raise DeployError(
            f"{where} is on {split or 'unnamed'} patients, {'an unknown number' if trained is None else trained} of "
            "whom the run was trained on: it says nothing about new ones",
            hint="edge-tsfm evaluate RUN --json: test patients, or another hospital's with --split all",
        )
    if "device" in evaluation:
        _check_scored("adapter", _object(evaluation, "device").get("adapter"), digest(blob), where)


def _check_signal(ring: Ring, adapter: Adapter, where: str) -> None:
    """Refuse an adapter for something else than the ring's monitors forecast, or that does not say what it is for.

    Raises `DeployError` and `SignalMismatchError`.
    """
    use = ring.use
    if adapter.binding is None:
        raise DeployError(
            f"{where} does not say which signal it is for; ring {ring.name} is for {ring.signal}",
            hint="export it again: edge-tsfm export adapter RUN --bundle BUNDLE --out ADAPTER",
        )
    require_said(adapter.binding, use)
    check(adapter.binding, use)


def _check_judged_signal(ring: Ring, evaluation: dict[str, Any], where: str) -> None:
    """Refuse an evaluation on another signal or interval than the ring's. Raises `DeployError`."""
    data = _object(evaluation, "data")
    signal, interval = str(data.get("channel")), str(data.get("interval"))
    known = find_signal(signal)
    if (known.name if known else signal) != ring.signal or (ring.interval and interval != ring.interval):
        raise DeployError(
            f"{where} is on {signal} every {interval}; ring {ring.name} is for {ring.signal} every "
            f"{ring.interval or 'step'}"
        )


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an evaluation's field; an empty object where it is missing or of another type, which no check passes."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _judged_as(evaluation: dict[str, Any], adapter: Adapter, bundle: Bundle, where: str) -> str:
    """Name the forecaster to judge: what the device forecasts with this very blob and bundle, where that was scored.

    Raises `DeployError` when the evaluation has another bundle's forecasts.
    """
    if "device" not in evaluation:
        return "calibrated" if adapter.calibration else "adapter"
    _check_scored("bundle", _object(evaluation, "device").get("bundle"), bundle.digest.hex(), where)
    return "device"


def _check_scored(what: str, scored: Any, wanted: str, where: str) -> None:
    """Refuse an evaluation of what another file makes the device forecast. Raises `DeployError`."""
    if scored != wanted:
        raise DeployError(
            f"{where} scored {what} {str(scored)[:16]} on the device, this is {wanted[:16]}",
            hint="edge-tsfm evaluate RUN --bundle BUNDLE --adapter BLOB --json, with the files to approve",
        )


def _pinned_gate(repository: Repository) -> tuple[Gate, str]:
    """Read the gate whose hash the targets role names. Raises `DeployError` when the file is another."""
    pinned = str(repository.load("targets").signed.unrecognized_fields.get("x-gate"))
    path = repository.folder / "gates" / f"{repository.config['gate']}.toml"
    data = read_bounded(path, 65_536)
    if digest(data) != pinned:
        raise DeployError(f"{path} is not the gate that the targets role pins ({pinned[:16]})")
    return read_gate(data, path), pinned


def _reasons(acceptance: Acceptance, adapter: Adapter) -> str:
    """Return why an adapter is refused."""
    reasons = [check.sentence for check in acceptance.checks if not check.passed]
    reasons += ["the blob says it was accepted by hand (forced)"] if adapter.forced else []
    return "; ".join(reasons)


def list_target(repository: Repository, target: Any, sequence: int) -> tuple[str, list[str]]:
    """Name a target in the approved role; return the role it is in and the ids of the keys that signed it."""
    target.unrecognized_fields["custom"] = {"sequence": sequence}
    role = repository.approve_target(target)
    return role, sorted(repository.load(role).signatures)


def _prove(bundle: Bundle, blob: bytes) -> None:
    """Run the known-answer test as a device would: what fails here would fail there."""
    from device_runtime.forecast.forecaster import Forecaster

    if decode(blob).known_answer is None:
        raise DeployError("the adapter has no known-answer test: a device could not check its merge")
    Forecaster.open(bundle, blob)
