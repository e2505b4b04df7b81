"""What the publisher remembers of each channel, beside the signed metadata: what was approved, revoked and offered.

People know an adapter by the SHA-256 of its blob, as forecasts, monitors and reports do. The repository serves the blob
with its signatures, under the hash of that *signed file*; the ledger is where the one becomes the other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from device_runtime.blob import blob_size
from device_runtime.files import read_bounded, write_atomic
from device_runtime.rollout import NAME, adapter_target
from edge_tsfm.deploy.repository import MAX_FILE, Repository
from edge_tsfm.deploy.signers import digest
from edge_tsfm.errors import DeployError

PREFIX = 4  # characters of a hash that a person must give at least


@dataclass(frozen=True, kw_only=True)
class Channel:
    """What a channel's devices have been told so far."""

    name: str
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
                f"channel {self.name}: {len(found)} approved adapters start with {prefix!r}, want 1",
                hint=", ".join(self.adapters[file][:16] for file in self.sequences) or "edge-tsfm deploy approve",
            )
        return found[0]

    def called(self, file: str) -> str:
        """Say which adapter an approved file is, as people and monitors name it: ``adapter 77b4da6014840a1c``."""
        return f"adapter {self.adapters[file][:16]}"

    def live(self, file: str) -> bool:
        """Whether a monitor would accept an approved file."""
        return file not in self.revoked and self.sequences[file] >= self.security_minimum


def read_channel(repository: Repository, name: str) -> Channel:
    """Read a channel; a new one is empty. Raises `DeployError` for a name no device accepts.

    A revocation is signed before it is written here: what is signed counts even when a cut came between.
    """
    value = _read(repository.folder / "channels" / f"{_checked(name)}.json")
    known = Channel(**value) if value else Channel(name=name)
    named = {file: known.adapters.get(file) or _adapter_in(repository, name, file) for file in known.sequences}
    signed = repository.revocations().get(name, {"files": [], "minimum": 0})
    return replace(
        known,
        adapters=named,
        revoked=tuple(dict.fromkeys((*known.revoked, *signed["files"]))),
        security_minimum=max(known.security_minimum, signed["minimum"]),
    )


def _adapter_in(repository: Repository, channel: str, file: str) -> str:
    """Return the SHA-256 of the blob in a signed file: a ledger of an older release does not name it."""
    data = repository.target_bytes(repository.approved()[adapter_target(channel, file)])
    return digest(data[: blob_size(data)])


def write_channel(repository: Repository, channel: Channel) -> None:
    """Write a channel."""
    _write(repository.folder / "channels" / f"{channel.name}.json", asdict(channel))


def read_rollout(repository: Repository, name: str) -> dict[str, Any] | None:
    """Return a channel's roll-out as the publisher keeps it, or None. Raises `DeployError` as `read_channel`."""
    state: dict[str, Any] | None = _read(repository.folder / "rollouts" / f"{_checked(name)}.json")
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


def _checked(name: str) -> str:
    """Refuse a name that no monitor accepts, and so one that leads to another folder."""
    if not NAME.fullmatch(name):
        raise DeployError(f"channel {name[:80]!r}: want a-z, 0-9 and -, at most 63")
    return name


def _read(path: Path) -> Any:
    """Read a JSON file, or return None where there is none."""
    if not path.exists():
        return None
    try:
        return json.loads(read_bounded(path, MAX_FILE))
    except ValueError as error:
        raise DeployError(f"{path}: {error}", hint="restore it from a copy of the repository") from error


def _write(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True).encode())
