"""The publisher's records of each ring, beside the signed metadata: what was approved, revoked and offered.

People, forecasts, monitors and reports name an adapter by the SHA-256 of its blob. The repository serves the blob with
its signatures, under the hash of that *signed file*; the ledger maps one to the other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.files import write_atomic
from device_runtime.format.binding import Use
from device_runtime.format.blob import blob_size
from device_runtime.series.duration import parse_duration, say_duration
from device_runtime.series.signals import find_signal
from device_runtime.update.rollout import NAME, adapter_target
from edge_tsfm.deploy.controller import Stage
from edge_tsfm.deploy.repository import MAX_FILE, Repository
from edge_tsfm.deploy.signers import digest
from edge_tsfm.errors import DeployError

PREFIX = 4  # characters of a hash that a person must give at least


@dataclass(frozen=True, kw_only=True)
class Ring:
    """What has been published to a ring's devices so far."""

    name: str
    signal: str = ""  # what its monitors forecast, as "MAP"; empty until `describe` has said it
    unit: str = ""  # UCUM
    interval: str = ""  # time between two steps, as "1h"; empty: steps of no stated length
    sequence: int = -1  # highest ever given
    revoked: tuple[str, ...] = ()
    security_minimum: int = 0
    sequences: dict[str, int] = field(default_factory=dict)  # SHA-256 of signed file -> its sequence now
    versions: dict[str, int] = field(default_factory=dict)  # SHA-256 of signed file -> the blob's version
    adapters: dict[str, str] = field(default_factory=dict)  # SHA-256 of signed file -> the blob's SHA-256

    def find(self, prefix: str) -> str:
        """Return the signed file of the one approved adapter whose name starts with ``prefix``. Raises `DeployError`.

        The start of a signed file's own hash finds it too.
        """
        found = [file for file in self.sequences if any(one.startswith(prefix) for one in (self.adapters[file], file))]
        if len(found) != 1 or len(prefix) < PREFIX:
            raise DeployError(
                f"ring {self.name}: {len(found)} approved adapters start with {prefix!r}, want 1",
                hint=", ".join(self.adapters[file][:16] for file in self.sequences) or "edge-tsfm deploy approve",
            )
        return found[0]

    def require_signal(self) -> None:
        """Raise `DeployError` if it is not set what the ring's monitors forecast."""
        if not self.signal:
            raise DeployError(
                f"ring {self.name}: it is not set what its monitors forecast",
                hint=f"edge-tsfm deploy ring REPOSITORY {self.name} --signal MAP --interval 1h",
            )

    @property
    def use(self) -> Use:
        """What the ring's monitors forecast. Raises `DeployError` if it is not set."""
        self.require_signal()
        return Use.of(self.signal, interval=self.interval, unit=self.unit)

    def called(self, file: str) -> str:
        """Return which adapter an approved file is, as people and monitors name it: ``adapter 77b4da6014840a1c``."""
        return f"adapter {self.adapters[file][:16]}"

    def live(self, file: str) -> bool:
        """Whether a monitor would accept an approved file."""
        return file not in self.revoked and self.sequences[file] >= self.security_minimum


@dataclass(frozen=True, kw_only=True)
class RolloutState:
    """A roll-out as the publisher keeps it. Valid once built."""

    channel: str  # the ring, under the key of the file
    file: str  # SHA-256 of the signed adapter
    sequence: int
    stage: int  # of ``stages``
    stages: tuple[Stage, ...]
    began: float  # seconds since 1970: when the stage began
    halt: bool
    paused: bool
    finished: bool
    before: str | None = None  # what every monitor has when this one ends early; older releases do not say
    approved: str = ""
    confirmed: tuple[str, ...] = ()  # devices that ever reported it confirmed
    because: str = ""  # why it was halted; older releases do not say
    went_back: tuple[str, ...] = ()  # of them, or of those that failed with it, at the last step: run something older

    def __post_init__(self) -> None:
        """Refuse a stage that is not there."""
        if not 0 <= self.stage < len(self.stages):
            raise DeployError(f"stage {self.stage}: want one of the {len(self.stages)} stages, from 0")


def read_ring(repository: Repository, name: str) -> Ring:
    """Read a ring; a new one is empty. Raises `DeployError` for a name no device accepts.

    A revocation is signed before it is written here: what is signed counts even when a cut came between.
    """
    value = _read(_ring_file(repository, name))
    where = f"ring {name}" if value is None else str(_ring_file(repository, name))
    known = Ring(name=name) if value is None else bind(Ring, value, where, error=DeployError)
    named = {file: known.adapters.get(file) or _adapter_in(repository, name, file) for file in known.sequences}
    signed = repository.revocations().get(name, {"files": [], "minimum": 0})
    return replace(
        known,
        adapters=named,
        revoked=tuple(dict.fromkeys((*known.revoked, *signed["files"]))),
        security_minimum=max(known.security_minimum, signed["minimum"]),
    )


def describe(repository: Repository, name: str, *, signal: str, interval: str, unit: str = "") -> Ring:
    """Set what a ring's monitors forecast; only adapters for that are approved for it.

    Raises `DeployError` for a ring that says otherwise already, for a unit that is not the signal's, and
    `InputError` for an interval that is no span of time.
    """
    known = find_signal(signal)
    said = known.name if known else signal
    unit = unit or (known.ucum if known else "")
    if known is not None and unit != known.ucum:
        raise DeployError(f"{known.name} in {unit!r}: want {known.ucum} (UCUM)")
    interval = say_duration(parse_duration(interval)) if interval else ""
    ring = read_ring(repository, name)
    before = (ring.signal, ring.unit, ring.interval)
    if ring.signal and before != (said, unit, interval):
        raise DeployError(
            f"ring {name} forecasts {ring.signal} every {ring.interval or 'step'}: that does not change",
            hint="use another ring for monitors that forecast something else",
        )
    ring = replace(ring, signal=said, unit=unit, interval=interval)
    write_ring(repository, ring)
    return ring


def _adapter_in(repository: Repository, ring: str, file: str) -> str:
    """Return the SHA-256 of the blob in a signed file: a ledger of an older release does not name it."""
    target = repository.approved().get(adapter_target(ring, file))
    if target is None:
        raise DeployError(f"ring {ring}: signed file {file[:16]} has a sequence, but is not approved")
    data = repository.target_bytes(target)
    return digest(data[: blob_size(data)])


def write_ring(repository: Repository, ring: Ring) -> None:
    """Write a ring."""
    _write(_ring_file(repository, ring.name), asdict(ring))


def read_rollout(repository: Repository, name: str) -> dict[str, Any] | None:
    """Return a ring's roll-out as the publisher keeps it, or None. Raises `DeployError` as `read_ring`."""
    path = repository.folder / "rollouts" / f"{_checked(name)}.json"
    state: dict[str, Any] | None = _read(path)
    if state is not None:
        bind(RolloutState, state, str(path), error=DeployError)
    return state


def write_rollout(repository: Repository, state: dict[str, Any]) -> None:
    """Write a ring's roll-out."""
    _write(repository.folder / "rollouts" / f"{_checked(state['channel'])}.json", state)


def ring_names(repository: Repository) -> list[str]:
    """Return the names of all rings that something was said of."""
    return [path.stem for path in sorted((repository.folder / "channels").glob("*.json"))]


def rollouts(repository: Repository) -> list[dict[str, Any]]:
    """Return every ring's roll-out."""
    names = [path.stem for path in sorted((repository.folder / "rollouts").glob("*.json"))]
    return [state for name in names if (state := read_rollout(repository, name))]


def in_the_field(repository: Repository, ring: Ring) -> str | None:
    """Return the file that a ring's monitors have: what is offered, else the newest approval; None: the base.

    A roll-out that was halted before its end reached few: then it is what the last finished one brought to all.
    """
    offered = read_rollout(repository, ring.name)
    live = [file for file in ring.sequences if ring.live(file)]
    if offered and offered["halt"] and not offered["finished"] and offered.get("before") in live:
        return str(offered["before"])
    if offered and offered["file"] in live:
        return str(offered["file"])
    return max(live, key=lambda file: ring.sequences[file], default=None)


def _ring_file(repository: Repository, name: str) -> Path:
    """Return where a ring is written down."""
    return repository.folder / "channels" / f"{_checked(name)}.json"


def _checked(name: str) -> str:
    """Refuse a name that no monitor accepts, and so one that leads to another folder."""
    if not NAME.fullmatch(name):
        raise DeployError(f"ring {name[:80]!r}: want a-z, 0-9 and -, at most 63")
    return name


def _read(path: Path) -> Any:
    """Read a JSON file, or return None where there is none."""
    if not path.exists():
        return None
    return read_json(path, limit=MAX_FILE, error=DeployError)


def _write(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True).encode())
