"""The roll-out document of a ring: a small signed JSON file, written by the publisher, read by every monitor."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from device_runtime.binder import bind
from device_runtime.documents import parse_json
from device_runtime.errors import FormatError
from device_runtime.update.sealed import to_json

MAX_SIZE = 4_096  # bytes
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What a ring's monitors are offered, and how many of them. Valid once built."""

    channel: str  # the ring; its key on the wire is older than that word
    sequence: int  # of the approval; a device never goes below
    signed_file: str  # SHA-256 of the adapter with its signatures, hex; the approved role must name the same
    permille: int = 0
    groups: tuple[str, ...] = ()
    salt: str = ""
    halt: bool = False  # no further monitor starts on it; those that did continue

    def __post_init__(self) -> None:
        """Check every field."""
        if not NAME.fullmatch(self.channel):
            raise FormatError(f"ring {self.channel[:80]!r}: want a-z, 0-9 and -, at most 63")
        if not re.fullmatch("[0-9a-f]{64}", self.signed_file):
            raise FormatError(f"signed_file {self.signed_file[:80]!r}: want a SHA-256 in hexadecimal")
        if not 0 <= self.permille <= 1000 or not 0 <= self.sequence < 2**63:
            raise FormatError(f"permille {self.permille}, sequence {self.sequence}: out of range")

    @property
    def target(self) -> str:
        """Path of the adapter among the repository's targets."""
        return adapter_target(self.channel, self.signed_file)


def adapter_target(ring: str, file: str) -> str:
    """Return the path of an approved adapter."""
    return f"approved/{ring}/{file}.etsa"


def nothing_target(ring: str) -> str:
    """Return a path under which nothing is ever approved: looking it up reads what the approved role says."""
    return f"approved/{ring}/-"


def rollout_target(ring: str) -> str:
    """Return the path of a ring's roll-out document."""
    return f"rollout/{ring}.json"


def encode(rollout: Rollout) -> bytes:
    """Write a roll-out document."""
    return to_json(asdict(rollout))


def decode(data: bytes) -> Rollout:
    """Read a roll-out document. Raises `FormatError` for unknown or missing fields and wrong types."""
    if len(data) > MAX_SIZE:
        raise FormatError(f"roll-out: {len(data)} bytes, want at most {MAX_SIZE}")
    return bind(Rollout, parse_json(data, "roll-out"), "roll-out", complete=True)
