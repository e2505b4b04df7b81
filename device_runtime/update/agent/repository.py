"""Reading a repository through TUF, with the gaps closed that python-tuf leaves.

The factory's root is always the bootstrap (a damaged link to root.json is repaired); limits are set for a monitor;
expiry is judged by the later of the clock and the time floor; accepted versions are stored in the durable floor; and
the cache is flushed to disk. A cache that led below the floor is discarded, and so is one that has anything but plain
files. If the disk is full, a cache in memory is used for this poll, so that a revocation is read all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.updater import Updater

from device_runtime.errors import OfflineError, RollbackError, SignatureError, StorageError
from device_runtime.files import sync_folder
from device_runtime.update.agent.fetch import Fetcher
from device_runtime.update.floor import Floor, Role

LIMITS = {
    "root_max_length": 16_384,
    "timestamp_max_length": 4_096,
    "snapshot_max_length": 16_384,
    "targets_max_length": 65_536,
    "max_delegations": 8,
    "max_root_rotations": 256,  # in a monitor's life: every poll follows them anew from the factory's root
}  # bytes, bytes, bytes, bytes, roles, versions
MAX_CACHED = 1_048_576  # bytes of any file in the cache: each of the limits is far below
ROLES = ("timestamp", "snapshot", "targets", "approved", "rollout")
IN_MEMORY = ("/dev/shm", "/run", "/tmp")  # noqa: S108 - a folder of its own is made there, for one poll
REVOKED = "x-revoked"  # field of the approved role: ring -> files and minimum


class StaleError(RollbackError):
    """The repository's metadata have expired: nothing new is installed until it is signed again."""


class Repository:
    """One poll's view of a repository. Make a new one for each poll."""

    def __init__(self, cache: Path, url: str, fetcher: Fetcher, root: bytes, floor: Floor, *, now: float) -> None:
        self.cache, self.floor, self._now = cache, floor, now
        self._source = (url, fetcher, root)
        self._memory: tempfile.TemporaryDirectory[str] | None = None
        self._begin(max(now, floor.time))

    def _begin(self, reference: float) -> None:
        """Make a client that judges expiry at the time ``reference``, in seconds since 1970."""
        try:
            _sweep(self.cache)
            self._open(self.cache)
        except (OSError, RepositoryError):
            _discard(self.cache)
            self._elsewhere()
        # python-tuf (pinned below 8) has no setting for this; a test fails should the attribute go.
        self._trusted: Any = self.updater._trusted_set
        self._reference = reference
        self._trusted.reference_time = datetime.fromtimestamp(reference, UTC)

    def _open(self, cache: Path) -> None:
        """Make a client with a cache. Raises `OSError`, `RepositoryError`."""
        url, fetcher, root = self._source
        cache.mkdir(parents=True, exist_ok=True)
        self.updater = Updater(
            str(cache),
            url + "metadata/",
            target_base_url=url + "targets/",
            fetcher=fetcher,
            config=UpdaterConfig(**LIMITS),  # type: ignore[arg-type]  # lengths and counts, all integers
            bootstrap=root,
        )

    def _elsewhere(self) -> None:
        """Make a client with a new cache, in memory where the disk takes none. Raises `StorageError`."""
        try:
            self._open(self.cache)
        except (OSError, RepositoryError) as error:
            problem = error
        else:
            return
        for folder in IN_MEMORY:
            with contextlib.suppress(OSError, RepositoryError):
                self._memory = tempfile.TemporaryDirectory(dir=folder, prefix="edge-tsfm-")
                self.cache = Path(self._memory.name)
                self._open(self.cache)
                return
        raise StorageError(f"TUF cache {self.cache}: {problem}") from problem

    def refresh(self) -> Floor:
        """Read what is new; return the floor raised by it. Raises `RollbackError`, `SignatureError`, `OfflineError`."""
        try:
            self._refresh_somewhere()
        except StaleError:
            # The time floor comes from the old timestamp keys: a thief of those may have signed any date.
            if self._reference <= self._now or self._keys("timestamp") == self.floor.time_keys:
                raise
            self._begin(self._now)
            self._guarded(self.updater.refresh)
        return self._accept()

    def _refresh_somewhere(self) -> None:
        """Read the top-level roles; where the cache's disk refuses, once more with one in memory."""
        try:
            self._guarded(self.updater.refresh)
        except StorageError:
            if self._memory is not None:
                raise
            _discard(self.cache)
            self._elsewhere()
            self._trusted = self.updater._trusted_set
            self._trusted.reference_time = datetime.fromtimestamp(self._reference, UTC)
            self._guarded(self.updater.refresh)

    def expires(self) -> dict[str, float]:
        """Return when the signatures of each role that was read end, in seconds since 1970."""
        trusted = {name: self._trusted[name] for name in ROLES if name in self._trusted}
        return {name: role.expires.timestamp() for name, role in {"root": self._trusted.root, **trusted}.items()}

    @property
    def knows_revocations(self) -> bool:
        """Whether the approved role has been read and trusted."""
        return "approved" in self._trusted

    def revocations(self, ring: str) -> tuple[list[str], int]:
        """Return what the approved role takes back on a ring: SHA-256 of files, and the security minimum.

        The role must have been read, by `target`. Raises `SignatureError` when it says it in another way.
        """
        if not self.knows_revocations:
            return [], 0
        value = self._trusted["approved"].unrecognized_fields.get(REVOKED, {})
        mine = value.get(ring, {"files": [], "minimum": 0}) if isinstance(value, dict) else None
        if not isinstance(mine, dict) or mine.keys() != {"files", "minimum"}:
            raise SignatureError(f"approved: {REVOKED}: want files and minimum for each ring")
        files, minimum = mine["files"], mine["minimum"]
        known = isinstance(files, list) and all(isinstance(file, str) and len(file) == 64 for file in files)
        if not known or type(minimum) is not int or not 0 <= minimum < 2**63:
            raise SignatureError(f"approved: {REVOKED}: want SHA-256 digests and a sequence")
        return files, minimum

    def target(self, path: str) -> TargetFile | None:
        """Look a target up through the delegations; the roles read on the way raise the floor, also when it fails."""
        try:
            info: TargetFile | None = self._guarded(lambda: self.updater.get_targetinfo(path))
        finally:
            self._accept()
        return info

    def download(self, target: TargetFile, limit: int, *, keep: str = "") -> bytes:
        """Fetch a target of at most ``limit`` bytes and check it against its metadata.

        ``keep`` names a file of the cache: what has not changed since the last poll is read there, not fetched.
        """
        if target.length > limit:
            raise SignatureError(f"{target.path}: {target.length} bytes, want at most {limit}")
        if keep:
            kept = str(self.cache / keep)
            self._guarded(lambda: self.updater.find_cached_target(target, kept) or self._fetch(target, kept))
            data = self._guarded(Path(kept).read_bytes)
            self._guarded(lambda: target.verify_length_and_hashes(data))  # these bytes, not those a moment ago
            return bytes(data)
        return bytes(self._guarded(lambda: self._fetch_aside(target)))

    def _fetch_aside(self, target: TargetFile) -> bytes:
        """Fetch a target that is kept nowhere: slots are an adapter's only store."""
        with tempfile.TemporaryDirectory() as folder:
            return Path(self._fetch(target, str(Path(folder) / "target"))).read_bytes()

    def _fetch(self, target: TargetFile, path: str) -> str:
        """Fetch a target into a file."""
        return self.updater.download_target(target, path)

    def _guarded(self, call: Any) -> Any:
        """Run one step of python-tuf, its errors turned into ours."""
        try:
            return call()
        except ExpiredMetadataError as error:
            raise StaleError(f"the repository is stale: {error}", hint="have it published again") from error
        except RepositoryError as error:
            raise SignatureError(f"the repository's metadata are refused: {type(error).__name__}: {error}") from error
        except DownloadError as error:
            raise OfflineError(f"the repository cannot be read: {error}") from error
        except OSError as error:
            raise StorageError(f"TUF cache {self.cache}: {error.strerror or error}") from error

    def _accept(self) -> Floor:
        """Compare every role read so far with the floor."""
        trusted = self._trusted
        root = trusted.root
        _check_distinct("root", root.keys, root.roles)
        roles: dict[str, Role] = {}
        for name, role in root.roles.items():
            if name == "root" or name in trusted:
                version = root.version if name == "root" else trusted[name].version
                roles[name] = Role(version=version, keys=_digest(role.keyids, role.threshold))
        # Deeper roles (hash bins) are pinned by the snapshot, whose version is held here.
        delegations = trusted.targets.delegations
        if delegations:
            _check_distinct("targets", delegations.keys, delegations.roles or {})
        for name, role in (delegations.roles or {}).items() if delegations else ():
            if name in trusted:
                roles[name] = Role(version=trusted[name].version, keys=_digest(role.keyids, role.threshold))
        try:
            floor = self.floor.accept_roles(roles).accept_time(self._signed_at(), self._keys("timestamp"))
        except RollbackError:
            _discard(self.cache)
            raise
        self._flush()
        self.floor = floor
        return floor

    def _signed_at(self) -> float:
        """Return a moment that has surely passed: when the online key says it signed the timestamp.

        Only up to where the offline keys' own signatures end: a date beyond them is a thief's or a wrong clock's.
        """
        value = self._trusted.timestamp.unrecognized_fields.get("x-signed-at", 0)
        offline = min(self._trusted.root.expires, self._trusted.targets.expires).timestamp()
        return float(value) if type(value) is int and 0 <= value < offline else 0.0

    def _keys(self, name: str) -> str:
        """Return a digest of who may sign for a top-level role."""
        role = self._trusted.root.roles[name]
        return _digest(role.keyids, role.threshold)

    def _flush(self) -> None:
        """Make the cache durable: python-tuf renames without fsync."""
        if self._memory is not None:
            return
        try:
            for path in self.cache.rglob("*.json"):
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            for folder in (self.cache / "root_history", self.cache):
                sync_folder(folder)
        except OSError as error:
            raise StorageError(f"TUF cache {self.cache}: {error.strerror or error}") from error


def _sweep(cache: Path) -> None:
    """Throw a cache away that holds anything but plain files of our own and python-tuf's link. Raises `OSError`.

    A file of two names is not ours alone, and python-tuf writes over one in place; one longer than any that it fetches
    would fill the memory.
    """
    if not cache.is_dir() or cache.is_symlink():
        _discard(cache)
        return
    for path in sorted(cache.rglob("*")):
        found = path.lstat()
        mode = found.st_mode
        plain = stat.S_ISREG(mode) and found.st_nlink == 1 and found.st_size <= MAX_CACHED
        own_link = stat.S_ISLNK(mode) and path == cache / "root.json" and path.readlink().parent == Path("root_history")
        own_folder = stat.S_ISDIR(mode) and path == cache / "root_history"
        if not (plain or own_link or own_folder):
            _discard(cache)
            return
        if path.name.startswith("tmp"):  # python-tuf's, left by a cut
            path.unlink()


def _discard(cache: Path) -> None:
    """Remove a cache, whatever it is."""
    with contextlib.suppress(OSError):
        if cache.is_dir() and not cache.is_symlink():
            shutil.rmtree(cache, ignore_errors=True)
        else:
            cache.unlink(missing_ok=True)


def _check_distinct(name: str, keys: Mapping[str, Any], roles: Mapping[str, Any]) -> None:
    """Refuse a role that names one key under two ids: python-tuf would count its signature twice.

    Raises `SignatureError`.
    """
    for role_name, role in roles.items():
        values = [str(keys[keyid].keyval) for keyid in role.keyids if keyid in keys]
        if len(set(values)) != len(values):
            raise SignatureError(f"{name} gives {role_name} the same key twice: its threshold means nothing")


def _digest(key_ids: list[str], threshold: int) -> str:
    """Return a digest of who may sign for a role."""
    return hashlib.sha256(",".join([str(threshold), *sorted(key_ids)]).encode()).hexdigest()[:32]
