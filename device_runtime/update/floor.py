"""The versions below which a device never goes, kept outside TUF's cache.

python-tuf loses its rollback protection when its cache is emptied (a power cut can do that); this floor is not lost. It
only rises, is kept in two copies, and is raised before what it protects is committed. Of two copies that differ, the
higher value of each limit counts. Both are replaced within reserved space, so a revocation works on a full disk too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from device_runtime.binder import bind
from device_runtime.errors import DeviceRuntimeError, RollbackError, StorageError
from device_runtime.update import disk as files
from device_runtime.update.disk import Disk
from device_runtime.update.sealed import seal, unseal

COPIES = ("floor.a", "floor.b")
MAX_SIZE = 65_536  # bytes
MAX_REVOKED = 256  # files of one device's life; a publisher lists at most 32 at a time
BLOCK = 4_096  # bytes; a copy's size is a multiple of it
HEADROOM = 4_096  # bytes that the next change may add on a full disk: 32 revoked files take 2,200


@dataclass(frozen=True, kw_only=True)
class Role:
    """The last accepted version of one metadata role, and the keys that signed for it."""

    version: int
    keys: str  # digest of the role's key ids: new keys start a new count, or a fast-forward could never be mended


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Monotonic limits. What `accept_…` returns is never lower, but for what new keys begin anew."""

    sequences: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # ring -> (sequence, SHA-256 of file)
    security_minimum: Mapping[str, int] = field(default_factory=dict)  # ring -> sequence
    revoked: tuple[str, ...] = ()  # SHA-256 of files, in the order they were revoked
    roles: Mapping[str, Role] = field(default_factory=dict)  # TUF role -> last accepted
    time: float = 0.0  # seconds since 1970; the latest moment known to have passed
    time_keys: str = ""  # digest of the keys that vouched for it: with new keys it is forgotten
    number: int = 0  # rises with every write; held against the device's counter (device_runtime.update.counter)

    def __post_init__(self) -> None:
        """Freeze the maps."""
        for name in ("sequences", "security_minimum", "roles"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def check_sequence(self, ring: str, sequence: int, file: str) -> None:
        """Refuse what is older than what was accepted. Raises `RollbackError`.

        The same sequence is allowed again for the same file: a power cut may have come between floor and slot.
        """
        floor, known = self.sequences.get(ring, (-1, ""))
        if sequence < floor or (sequence == floor and file != known):
            raise RollbackError(
                f"ring {ring}: sequence {sequence} (signed file {file[:16]}), accepted {floor} "
                f"(signed file {known[:16]})"
            )
        if sequence < self.security_minimum.get(ring, 0):
            raise RollbackError(f"ring {ring}: sequence {sequence} is below the security minimum")
        if file in self.revoked:
            raise RollbackError(f"ring {ring}: signed file {file[:16]} is revoked")

    def check_roles(self, roles: Mapping[str, Role]) -> None:
        """Refuse metadata older than what was accepted, whatever TUF's cache remembers. Raises `RollbackError`."""
        for name, role in roles.items():
            known = self.roles.get(name)
            if known and (name == "root" or known.keys == role.keys) and role.version < known.version:
                raise RollbackError(
                    f"metadata {name}: version {role.version} is older than {known.version}, accepted before",
                    hint="an old copy of the repository is being replayed",
                )

    def accept_sequence(self, ring: str, sequence: int, file: str) -> Floor:
        """Raise a ring's sequence."""
        self.check_sequence(ring, sequence, file)
        return replace(self, sequences={**self.sequences, ring: (sequence, file)})

    def accept_roles(self, roles: Mapping[str, Role]) -> Floor:
        """Raise the roles' versions."""
        self.check_roles(roles)
        return replace(self, roles={**self.roles, **roles})

    def accept_time(self, seconds: float, keys: str) -> Floor:
        """Raise the time; what other ``keys`` vouched for no longer counts, or a thief's date could never be mended."""
        return replace(self, time=max(self.time, seconds) if keys == self.time_keys else seconds, time_keys=keys)

    def joined(self, other: Floor) -> Floor:
        """Return the higher of both in sequences and revocations, and the other's metadata versions and time.

        Only polls change the latter, one at a time.
        """
        sequences = dict(self.sequences)
        for ring, pair in other.sequences.items():
            sequences[ring] = max(pair, sequences.get(ring, (-1, "")), key=lambda item: item[0])
        minimum = {
            ring: max(self.security_minimum.get(ring, 0), other.security_minimum.get(ring, 0))
            for ring in {**self.security_minimum, **other.security_minimum}
        }
        return Floor(
            sequences=sequences,
            security_minimum=minimum,
            revoked=tuple(dict.fromkeys((*self.revoked, *other.revoked))),
            roles={**self.roles, **other.roles},
            time=other.time,
            time_keys=other.time_keys,
            number=max(self.number, other.number),
        )

    def highest(self, other: Floor) -> Floor:
        """Return the higher of two copies in every limit; the one written later decides where keys differ."""
        older, newer = (other, self) if other.number <= self.number else (self, other)
        joined = older.joined(newer)
        roles = dict(joined.roles)
        for name, role in older.roles.items():
            known = roles[name]
            if (name == "root" or known.keys == role.keys) and role.version > known.version:
                roles[name] = role
        time = max(older.time, newer.time) if older.time_keys == newer.time_keys else newer.time
        return replace(joined, roles=roles, time=time)

    def accept_revocations(self, ring: str, revoked: Iterable[str], minimum: int) -> Floor:
        """Add revoked files and raise a ring's security minimum. Raises `StorageError` when there are too many."""
        files_revoked = tuple(dict.fromkeys((*self.revoked, *revoked)))
        if len(files_revoked) > MAX_REVOKED:
            raise StorageError(f"{len(files_revoked)} revoked files: want at most {MAX_REVOKED}")
        minimum = max(minimum, self.security_minimum.get(ring, 0))
        return replace(self, revoked=files_revoked, security_minimum={**self.security_minimum, ring: minimum})


def to_value(floor: Floor) -> dict[str, Any]:
    """Encode a floor as plain values."""
    return {
        "sequences": {ring: list(pair) for ring, pair in floor.sequences.items()},
        "security_minimum": dict(floor.security_minimum),
        "revoked": list(floor.revoked),
        "roles": {name: [role.version, role.keys] for name, role in floor.roles.items()},
        "time": floor.time,
        "time_keys": floor.time_keys,
        "number": floor.number,
    }


def from_value(value: Any) -> Floor:
    """Decode a floor. Raises `StorageError` for anything that `to_value` does not write."""
    stored = bind(_Stored, value, "floor", error=StorageError)
    return Floor(
        sequences=stored.sequences,
        security_minimum=stored.security_minimum,
        revoked=stored.revoked,
        roles={name: Role(version=version, keys=keys) for name, (version, keys) in stored.roles.items()},
        time=stored.time,
        time_keys=stored.time_keys,
        number=stored.number,
    )


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A floor as `to_value` writes it: what must be there, and of which kind."""

    sequences: Mapping[str, tuple[int, str]]
    security_minimum: Mapping[str, int]
    revoked: tuple[str, ...]
    roles: Mapping[str, tuple[int, str]]
    time: float
    time_keys: str
    number: int = 0  # older releases wrote none

    def __post_init__(self) -> None:
        """Refuse numbers that no write ever had: a limit that is too high could not be mended."""
        pairs = (*self.sequences.values(), *self.roles.values())
        least = min((number for number, _ in pairs), default=0)
        if least < -1 or min((*self.security_minimum.values(), self.number), default=0) < 0:
            raise StorageError("want sequences, versions and numbers that are not negative")
        if not 0 <= self.time < 1e11:
            raise StorageError(f"time {self.time:g}: want seconds since 1970")


def room(floor: Floor) -> int:
    """Return how many bytes a copy takes so that the next change fits into it as well."""
    return -(-(len(seal(to_value(floor))) + HEADROOM) // BLOCK) * BLOCK


def write(disk: Disk, floor: Floor) -> None:
    """Write both copies durably, one after the other: whatever is cut, one is whole. Raises `StorageError`."""
    value = to_value(floor)
    for name in COPIES:
        try:
            files.replace_in_reserve(disk, name, seal(value, room=room(floor)))
        except StorageError:  # no room for more headroom: then without
            files.replace_in_reserve(disk, name, seal(value))


def reserve(disk: Disk, floor: Floor) -> None:
    """Reserve space for the next change of both copies. Raises `StorageError` when there is none."""
    for name in COPIES:
        files.reserve(disk, name, room(floor))


def read(disk: Disk, *, fresh: bool) -> Floor:
    """Read the higher of the whole copies.

    ``fresh`` says that the device has never installed anything: then, and only then, no copy means the lowest floor.
    Raises `StorageError` when there is no whole copy otherwise: nothing is installed without a floor.
    """
    found: list[Floor] = []
    problem = ""
    for name in COPIES:
        try:
            data = disk.read(name, MAX_SIZE)
            if data is not None:
                found.append(from_value(unseal(data, name)))
        except DeviceRuntimeError as error:
            problem = str(error)
    if found:
        return found[0] if len(found) == 1 else found[0].highest(found[1])
    if fresh and not problem:
        return Floor()
    raise StorageError(
        f"no copy of the floor can be read: nothing new is installed{': ' if problem else ''}{problem}",
        hint="what runs continues; have the device's storage checked, then enrol it again",
    )
