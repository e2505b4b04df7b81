"""What the publisher remembers of each channel, beside the signed metadata: what was approved, revoked and offered."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from device_runtime.binding import bind
from device_runtime.documents import read_json
from device_runtime.files import write_atomic
from device_runtime.rollout import NAME
from edge_tsfm.deploy.controller import Stage
from edge_tsfm.deploy.repository import MAX_FILE, Repository
from edge_tsfm.errors import DeployError

PREFIX = 4  # characters of a hash that a person must give at least


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
        if len(found) != 1 or len(prefix) < PREFIX:
            raise DeployError(
                f"channel {self.name}: {len(found)} approved adapters start with {prefix!r}, want 1",
                hint=", ".join(file[:16] for file in self.sequences) or "edge-tsfm deploy approve",
            )
        return found[0]

    def live(self, file: str) -> bool:
        """Whether a monitor would accept an approved file."""
        return file not in self.revoked and self.sequences[file] >= self.security_minimum


@dataclass(frozen=True, kw_only=True)
class RolloutState:
    """A roll-out as the publisher keeps it. Valid once built."""

    channel: str
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

    def __post_init__(self) -> None:
        """Refuse a stage that is not there."""
        if not 0 <= self.stage < len(self.stages):
            raise DeployError(f"stage {self.stage}: want one of the {len(self.stages)} stages, from 0")


def read_channel(repository: Repository, name: str) -> Channel:
    """Read a channel; a new one is empty. Raises `DeployError` for a name no device accepts.

    A revocation is signed before it is written here: what is signed counts even when a cut came between.
    """
    value = _read(_channel_file(repository, name))
    where = f"channel {name}" if value is None else str(_channel_file(repository, name))
    known = Channel(name=name) if value is None else bind(Channel, value, where, error=DeployError)
    signed = repository.revocations().get(name, {"files": [], "minimum": 0})
    return replace(
        known,
        revoked=tuple(dict.fromkeys((*known.revoked, *signed["files"]))),
        security_minimum=max(known.security_minimum, signed["minimum"]),
    )


def write_channel(repository: Repository, channel: Channel) -> None:
    """Write a channel."""
    _write(_channel_file(repository, channel.name), asdict(channel))


def read_rollout(repository: Repository, name: str) -> dict[str, Any] | None:
    """Return a channel's roll-out as the publisher keeps it, or None. Raises `DeployError` as `read_channel`."""
    path = repository.folder / "rollouts" / f"{_checked(name)}.json"
    state: dict[str, Any] | None = _read(path)
    if state is not None:
        bind(RolloutState, state, str(path), error=DeployError)
    return state


def write_rollout(repository: Repository, state: dict[str, Any]) -> None:
    """Write a channel's roll-out."""
    _write(repository.folder / "rollouts" / f"{_checked(state['channel'])}.json", state)


def rollouts(repository: Repository) -> list[dict[str, Any]]:
    """Return every channel's roll-out."""
    names = [path.stem for path in sorted((repository.folder / "rollouts").glob("*.json"))]
    return [state for name in names if (state := read_rollout(repository, name))]


def in_the_field(repository: Repository, channel: Channel) -> str | None:
    """Return the file that a channel's monitors have: what is offered, else the newest approval; None: the base.

    A roll-out that was halted before its end reached few: then it is what the last finished one brought to all.
    """
    offered = read_rollout(repository, channel.name)
    live = [file for file in channel.sequences if channel.live(file)]
    if offered and offered["halt"] and not offered["finished"] and offered.get("before") in live:
        return str(offered["before"])
    if offered and offered["file"] in live:
        return str(offered["file"])
    return max(live, key=lambda file: channel.sequences[file], default=None)


def _channel_file(repository: Repository, name: str) -> Path:
    """Return where a channel is written down."""
    return repository.folder / "channels" / f"{_checked(name)}.json"


def _checked(name: str) -> str:
    """Refuse a name that no monitor accepts, and so one that leads to another folder."""
    if not NAME.fullmatch(name):
        raise DeployError(f"channel {name[:80]!r}: want a-z, 0-9 and -, at most 63")
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
