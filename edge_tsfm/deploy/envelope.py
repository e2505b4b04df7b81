"""Approving an envelope of adaptation: judge its evidence, sign it, name it in the approved role, record.

The evidence is `edge-tsfm adapt-eval --json` for exactly these rules on this base, on patients who were not used to
choose the rules. Bounds are fixed here: a hospital's own can only be tighter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from device_runtime.adapt.envelope import PREFIX, Envelope, Plan, encode, further, join
from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules
from device_runtime.binder import bind
from device_runtime.documents import parse_json, read_toml
from device_runtime.files import about, read_bounded
from device_runtime.format.learning import LEARNING_FILE, Learning
from device_runtime.format.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE, Manifest
from device_runtime.update.envelope_store import envelope_target
from edge_tsfm.deploy.acceptance import MAX_EVALUATION, Acceptance, Check
from edge_tsfm.deploy.approve import list_target
from edge_tsfm.deploy.change_record import STATEMENT, tool_versions, write_record
from edge_tsfm.deploy.ledger import Ring, read_ring
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.signers import digest, signatures_of
from edge_tsfm.errors import ConfigError, DataError, DeployError, GateRefusedError

PREDICATE = "https://edge-tsfm.dev/adapt-envelope/v1"
HINT = "edge-tsfm adapt-eval DATA --bundle BUNDLE --mode active --split test --json > FILE"
RUNNING = "running"
WORSE_BY = "2"  # percent
MEANS = {
    "allow": "monitors of the ring whose settings ask for it learn within it from their next poll on",
    "withdraw": "at their next poll monitors take back what they learnt, and learn in shadow at most",
    "refused": "nothing changes on any monitor",
}


FALSE_PROMOTIONS, WORSE_SHARE, WQL_PERCENT = 0.05, 0.03, 0.0
SIMULATED, PATIENTS = 200, 50


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the evidence must show for an envelope that goes further than shadow. Tighter ones may be set."""

    false_promotions: float = FALSE_PROMOTIONS  # share of simulated wards without any gain that promoted
    worse_share: float = WORSE_SHARE  # of patients whose WQL rose by more than 2 %
    wql_percent: float = WQL_PERCENT  # of what ran against what is frozen: the interval's upper end
    simulated: int = SIMULATED  # wards without any gain, at least
    patients: int = PATIENTS  # at least

    def __post_init__(self) -> None:
        """Refuse bounds that are looser than these."""
        most = (FALSE_PROMOTIONS, WORSE_SHARE, WQL_PERCENT)
        own = (self.false_promotions, self.worse_share, self.wql_percent)
        if any(one > limit for one, limit in zip(own, most, strict=True)):
            raise ConfigError(
                f"false_promotions {self.false_promotions:g}, worse_share {self.worse_share:g}, wql_percent "
                f"{self.wql_percent:g}: want at most {', '.join(f'{one:g}' for one in most)}"
            )
        if self.simulated < SIMULATED or self.patients < PATIENTS:
            raise ConfigError(
                f"simulated {self.simulated}, patients {self.patients}: want at least {SIMULATED} and {PATIENTS}"
            )


@dataclass(frozen=True, kw_only=True)
class EnvelopeFile:
    """An ``envelope.toml``, as people write it."""

    enabled_by: tuple[str, ...]  # who may let a monitor go further than shadow
    rules: AdaptRules
    plan: Plan
    tensors: tuple[str, ...] = ()  # that may move; empty: all that the learning graphs move
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, kw_only=True)
class Percent:
    """A figure with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class EvidenceLine:
    """One forecaster of an evaluation."""

    name: str
    patients: int
    wql_percent: Percent
    worse: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Wards without any gain."""

    wards: int
    promoted: int


@dataclass(frozen=True, kw_only=True)
class EvidenceFile:
    """What ``edge-tsfm adapt-eval --json`` wrote, as far as an envelope is judged by it."""

    bundle: str
    split: str
    mode: str
    rules: Mapping[str, Any]
    lengths: Mapping[str, int]
    overall: tuple[EvidenceLine, ...]
    stationary: Simulated | None = None


@dataclass(frozen=True, kw_only=True)
class Permit:
    """What was allowed."""

    ring: str
    sequence: int
    most: str
    file: str  # SHA-256 of the signed envelope
    size: int  # bytes
    record: str


def approve_envelope(
    repository: Repository, source: Path, *, ring: str, bundle: Path, evidence: Path, who: str, why: str
) -> Permit:
    """Judge an envelope by its evidence; sign and list it when it passes. Monitors see nothing until `publish`.

    Raises `GateRefusedError` (a refusal is recorded), `ConfigError`, `DataError`, `DeployError`.
    """
    written = bind(EnvelopeFile, read_toml(source, error=ConfigError), str(source), error=ConfigError)
    shown, data = read_evidence(evidence)
    with about(bundle):
        base = Manifest.parse(read_bounded(bundle / MANIFEST_FILE, MAX_MANIFEST_SIZE))
        graphs = Learning.parse(read_bounded(bundle / LEARNING_FILE, MAX_MANIFEST_SIZE))
        graphs.on(base)
    if unknown := sorted(set(written.tensors) - set(graphs.names)):
        raise ConfigError(f"tensors: {unknown[0]!r} is not moved by {bundle}", hint=", ".join(graphs.names))
    known = read_ring(repository, ring)
    known.require_signal()
    envelope = _envelope(repository, known, written, graphs, digest(data), shown)
    acceptance = Acceptance(checks=tuple(_checks(written.bounds, envelope, shown)))
    facts: dict[str, Any] = {
        "ring": known,
        "envelope": envelope,
        "acceptance": acceptance,
        "evidence": shown,
        "who": who,
        "why": why,
    }
    if not acceptance.passed:
        path = _record(repository, "refused", signed=None, approvals={}, **facts)
        failed = "; ".join(check.sentence for check in acceptance.checks if not check.passed)
        raise GateRefusedError(f"the evidence is not sufficient: {failed}", hint=f"recorded in {path}")
    text = encode(envelope)
    trailer, signed_by = signatures_of(
        text, repository.signers("adapter"), repository.threshold("adapter"), prefix=PREFIX
    )
    signed = join(text, trailer)
    role, listed_by = list_target(repository, repository.put_target(envelope_target(ring), signed), envelope.sequence)
    path = _record(repository, "allow", signed=signed, approvals={"adapter": signed_by, role: listed_by}, **facts)
    return Permit(
        ring=ring, sequence=envelope.sequence, most=envelope.most.value, file=digest(signed), size=len(signed),
        record=str(path),
    )  # fmt: skip


def read_evidence(path: Path) -> tuple[EvidenceFile, bytes]:
    """Read what ``edge-tsfm adapt-eval --json`` wrote: figures, and the bytes they are in. Raises `DataError`."""
    data = read_bounded(path, MAX_EVALUATION)
    value = parse_json(data, str(path), error=DataError)
    return bind(EvidenceFile, value, str(path), error=DataError, ignore_unknown=True), data


def withdraw_envelope(repository: Repository, *, ring: str, who: str, why: str) -> Path:
    """Take a ring's envelope out of the approved role; return the record. Raises `DeployError` where there is none."""
    known = read_ring(repository, ring)
    if envelope_target(ring) not in repository.approved():
        raise DeployError(f"ring {ring} has no envelope")
    role = repository.drop_target(envelope_target(ring))
    approvals = {role: sorted(repository.load(role).signatures)}
    return _record(
        repository, "withdraw", signed=None, approvals=approvals, ring=known, envelope=None, acceptance=None,
        evidence=None, who=who, why=why,
    )  # fmt: skip


def _envelope(
    repository: Repository, ring: Ring, written: EnvelopeFile, graphs: Learning, evidence: str, shown: EvidenceFile
) -> Envelope:
    """Fill in what the file leaves to the base, the ring, the repository and the lengths that were evaluated."""
    last = repository.approved().get(envelope_target(ring.name))
    sequence = 1 + (int(last.custom["sequence"]) if last is not None else _highest(repository, ring.name))
    interval_us, steps = ring.use.interval_us or 0, shown.lengths.get("prediction_length", 0)
    if steps < 1:
        raise DataError("lengths: want prediction_length", hint=HINT)
    return Envelope(
        ring=ring.name,
        sequence=sequence,
        signal=ring.signal,
        unit=ring.unit,
        interval=ring.interval,
        base=graphs.base_digest,
        learning=graphs.digest.hex(),
        enabled_by=written.enabled_by,
        tensors=tuple(name for name in graphs.names if not written.tensors or name in written.tensors),
        rules=written.rules.at(interval_us // 1_000, steps),
        evidence=evidence,
        plan=written.plan,
    )


def _highest(repository: Repository, ring: str) -> int:
    """Return the sequence of the last envelope that a record tells of; 0: there was none."""
    found = 0
    for path in sorted((repository.folder / "records").glob("*-allow*.json")):
        value = parse_json(read_bounded(path, MAX_EVALUATION), str(path), error=DataError)
        predicate = value.get("predicate", {}) if isinstance(value, dict) else {}
        if isinstance(predicate, dict) and predicate.get("channel") == ring:
            held = predicate.get("envelope")
            found = max(found, int(held["sequence"]) if isinstance(held, dict) else 0)
    return found


def _checks(bounds: Bounds, envelope: Envelope, shown: EvidenceFile) -> Iterator[Check]:
    """Give every comparison. In shadow nothing forecasts, so only the subject counts."""
    yield _same("base", shown.bundle, envelope.base)
    apart = ("mode", "keep_windows")  # looked at below, and without effect on what is learnt
    ours = asdict(envelope.rules).items()
    differ = sorted(name for name, value in ours if name not in apart and shown.rules.get(name) != value)
    yield Check(
        what="the rules that were evaluated", got=None, bound=None, passed=not differ,
        note="are these" if not differ else f"are others: {', '.join(differ)}",
    )  # fmt: skip
    if not further(envelope.most, Mode.SHADOW):
        return
    yield Check(
        what="patients", got=None, bound=None, passed=shown.split in ("test", "all"),
        note=f"of the {shown.split} split",
    )  # fmt: skip
    yield Check(
        what="the mode that was evaluated", got=None, bound=None, passed=shown.mode == envelope.most.value,
        note=f"is {shown.mode}, the envelope's is {envelope.most}",
    )  # fmt: skip
    line = next((one for one in shown.overall if one.name in (RUNNING, "tracked")), None)
    if line is None:
        yield Check(what="what ran", got=None, bound=None, passed=False, note="has no figures")
        return
    yield Check(
        what="patients evaluated", got=None, bound=None, passed=line.patients >= bounds.patients,
        note=f"{line.patients}, at least {bounds.patients}",
    )  # fmt: skip
    high = line.wql_percent.high
    yield Check(
        what="WQL against frozen, %, upper end", got=high, bound=bounds.wql_percent, passed=high <= bounds.wql_percent
    )
    worse = line.worse.get(WORSE_BY)
    yield Check(
        what=f"share of patients worse by more than {WORSE_BY} %", got=worse, bound=bounds.worse_share,
        passed=worse is not None and worse <= bounds.worse_share, note="not known",
    )  # fmt: skip
    if envelope.most is Mode.ACTIVE:
        yield from _simulated(bounds, shown.stationary)


def _simulated(bounds: Bounds, found: Simulated | None) -> Iterator[Check]:
    """Compare false promotions."""
    if found is None or found.wards < max(bounds.simulated, 1):
        count = 0 if found is None else found.wards
        note = f"{count}, at least {bounds.simulated}"
        yield Check(what="simulated wards without gain", got=None, bound=None, passed=False, note=note)
        return
    share = found.promoted / found.wards
    yield Check(
        what="share of simulated wards without gain that promoted", got=share, bound=bounds.false_promotions,
        passed=share <= bounds.false_promotions,
    )  # fmt: skip


def _same(what: str, got: str, wanted: str) -> Check:
    note = "is this one" if got == wanted else f"{got[:16]}, this is {wanted[:16]}"
    return Check(what=f"the {what} that was evaluated", got=None, bound=None, passed=got == wanted, note=note)


def _record(
    repository: Repository,
    decision: str,
    *,
    signed: bytes | None,
    approvals: Mapping[str, list[str]],
    ring: Ring,
    envelope: Envelope | None,
    acceptance: Acceptance | None,
    evidence: EvidenceFile | None,
    who: str,
    why: str,
) -> Path:
    """Write the record of a decision on an envelope, as JSON and as a page; return the JSON's path."""
    name = f"envelope of adaptation for {ring.name}"
    subject = hashlib.sha256(encode(envelope)).hexdigest() if envelope else hashlib.sha256(name.encode()).hexdigest()
    subjects = [{"name": name, "digest": {"sha256": subject}}]
    if signed is not None:
        subjects.append({"name": f"{name}, signed file", "digest": {"sha256": digest(signed)}})
    value = {
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "decision": decision,
            "means": MEANS[decision],
            "channel": ring.name,
            "who": who,
            "why": why,
            "at": repository.now.isoformat(),
            "envelope": asdict(envelope) if envelope else None,
            "checks": [{**vars(check), "outcome": check.sentence} for check in acceptance.checks] if acceptance else [],
            "evidence": asdict(evidence) if evidence else None,
            "adapters": [],
            "revoked": [],
            "security_minimum": ring.security_minimum,
            "offered": None,
            "approvals": dict(approvals),
            "tools": tool_versions(),
        },
    }
    return write_record(repository.folder / "records", value)
