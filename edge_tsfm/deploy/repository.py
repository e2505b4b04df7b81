"""The update repository: TUF metadata as static files, and the few ways they may change.

Invariants: nothing a device reads is ever changed in place (names have versions; ``timestamp.json`` is replaced last,
as a whole); a role is written only if the available keys meet its threshold, checked as a client would; a command that
would leave the repository unusable is refused before anything is written.

    DIR/deploy.json     who signs what (public keys, thresholds, lifetimes)
    DIR/public/         what a web server or a stick carries: metadata/ and targets/
    DIR/records/        change records, also of refusals
    DIR/channels/       what each ring has been told; DIR/decisions/ why
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.files import read_bounded, write_atomic
from device_runtime.nearest import did_you_mean
from edge_tsfm.deploy.signers import ROLES, KeyRef, signer_for
from edge_tsfm.errors import DeployError

DAYS = {"root": 365, "targets": 365, "approved": 365, "rollout": 14, "snapshot": 14, "timestamp": 7}
KEYS_OF = {
    "root": "root", "targets": "targets", "approved": "quality", "rollout": "rollout",
    "snapshot": "online", "timestamp": "online",
}  # fmt: skip
BIN_BITS = 5  # 32 hash bins
BINS_FROM = 50  # live adapters
BIN_PREFIX = "approved-bin"
REVOKED = "x-revoked"  # field of the approved role; device_runtime.update.agent.repository reads it
MAX_FILE = 8_388_608  # bytes
ONLINE = ("rollout", "online")  # groups whose keys are on the publisher: what they signed is renewed by `publish`


@dataclass(frozen=True, kw_only=True)
class RepositoryFile:
    """A ``deploy.json``: who signs what."""

    keys: Mapping[str, tuple[KeyRef, ...]]  # group -> its keys
    thresholds: Mapping[str, int]  # group -> how many must sign
    gate: str  # SHA-256 of the pinned gate

    def __post_init__(self) -> None:
        """Refuse a repository with a role that nobody signs."""
        for group in ROLES:
            if group not in self.keys or group not in self.thresholds:
                raise DeployError(f"{group}: want its keys and its threshold")


class Repository:
    """One repository folder and the keys that are here now."""

    def __init__(
        self, folder: Path, keys: Path | None = None, *, more_keys: Sequence[Path] = (), now: datetime | None = None
    ) -> None:
        """Open ``folder``; keys are looked for in ``keys``, then in each of ``more_keys`` (two people, two sticks)."""
        self.folder, self.keys, self.more_keys = folder, keys or folder / "keys", tuple(more_keys)
        self.now = (now or datetime.now(UTC)).replace(microsecond=0)
        self.metadata, self.targets = folder / "public" / "metadata", folder / "public" / "targets"
        path = folder / "deploy.json"
        if not path.exists():
            raise DeployError(f"{folder} is not an update repository", hint="edge-tsfm deploy init")
        self.config: dict[str, Any] = {}
        self._read_config()

    def _read_config(self) -> None:
        """Read who signs what."""
        path = self.folder / "deploy.json"
        self.config = read_json(path, limit=MAX_FILE, error=DeployError)
        bind(RepositoryFile, self.config, str(path), error=DeployError)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep two publishers apart. Raises `DeployError` when another one is at work."""
        with (self.folder / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise DeployError(f"{self.folder} is in use by another command") from error
            self._read_config()  # another command may have changed the keys since
            yield

    # --- keys ----------------------------------------------------------------------------------------------------

    def refs(self, group: str) -> list[KeyRef]:
        """Return a group's keys."""
        return [bind(KeyRef, value, f"key of {group}", error=DeployError) for value in self.config["keys"][group]]

    def signers(self, group: str) -> list[tuple[KeyRef, Any]]:
        """Return the keys of a group that are here, each with what signs with it."""
        found = []
        for ref in self.refs(group):
            for folder in (self.keys, *self.more_keys):
                if (signer := signer_for(ref, folder)) is not None:
                    found.append((ref, signer))
                    break
        return found

    def threshold(self, group: str) -> int:
        """Return how many of a group's keys must sign."""
        return int(self.config["thresholds"][group])

    def group_of(self, role: str) -> str:
        """Return which group of keys signs for a role."""
        return "quality" if role.startswith(BIN_PREFIX) else KEYS_OF[role]

    def save_config(self) -> None:
        """Write who signs what."""
        write_atomic(self.folder / "deploy.json", json.dumps(self.config, indent=1, sort_keys=True).encode())

    # --- metadata ------------------------------------------------------------------------------------------------

    def version(self, role: str) -> int:
        """Return the newest version of a role on disk; 0 when there is none."""
        if role == "timestamp":
            path = self.metadata / "timestamp.json"
            return int(self._metadata(path).signed.version) if path.exists() else 0
        return self._versions().get(role, 0)

    def _versions(self) -> dict[str, int]:
        """Return the newest version of every role but the timestamp."""
        found: dict[str, int] = {}
        if self.metadata.is_dir():
            for name in os.listdir(self.metadata):  # noqa: PTH208 - thousands of names, hundreds of times
                version, _, role = name.removesuffix(".json").partition(".")
                if role and version.isdigit():
                    found[role] = max(int(version), found.get(role, 0))
        return found

    def load(self, role: str) -> Any:
        """Read a role's newest metadata. Raises `DeployError` when it cannot be read."""
        version = self.version(role)
        if not version:
            raise DeployError(
                f"there is no role {role}",
                hint=f"{did_you_mean(role, self.roles())}there are: {', '.join(self.roles())}",
            )
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        return self._metadata(self.metadata / name)

    def _metadata(self, path: Path) -> Any:
        """Read one file of metadata."""
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata

        try:
            return Metadata.from_bytes(read_bounded(path, MAX_FILE))
        except RepositoryError as error:
            raise DeployError(f"{path}: {error}", hint="restore it from a copy of the repository") from error

    def store(
        self, role: str, metadata: Any, *, extra_signers: list[Any] | None = None, delegator: Any | None = None
    ) -> int:
        """Sign a role's next version and write it; return the version.

        ``delegator`` says who may sign, where what is on disk does not yet. Raises `DeployError` when the keys here
        do not meet the threshold that a client will ask for, and when a monitor would find the file too large.
        """
        from tuf.api.exceptions import UnsignedMetadataError
        from tuf.api.metadata import Metadata
        from tuf.api.serialization.json import JSONSerializer

        signed = metadata.signed
        signed.version = self.version(role) + 1
        signed.expires = self.now + timedelta(days=DAYS.get(role, DAYS["approved"]))
        copy = Metadata(signed)
        group = self.group_of(role)
        signers = [signer for _, signer in self.signers(group)]
        # More signatures than wanted are bytes at every poll; a root keeps all, so that keys may leave later.
        wanted = len(signers) if role == "root" else self.threshold(group)
        for signer in [*signers[:wanted], *(extra_signers or ())]:
            copy.sign(signer, append=True)
        data = copy.to_bytes(JSONSerializer(compact=True))
        limit = _limit(role)
        if len(data) > limit:
            raise DeployError(
                f"role {role} would have {len(data)} bytes, a monitor reads {limit}",
                hint="edge-tsfm deploy revoke … --older revokes many at the cost of one",
            )
        try:
            for one in [delegator] if delegator else self._delegators(role, copy):
                one.signed.verify_delegate(role, copy.signed_bytes, copy.signatures)
        except (UnsignedMetadataError, ValueError) as error:
            raise DeployError(
                f"role {role}: {error}",
                hint=f"the {group} keys must be available: {self.threshold(group)} of {len(self.refs(group))} (--keys)"
                f"; looked in {', '.join(map(str, (self.keys, *self.more_keys)))}",
            ) from error
        self.metadata.mkdir(parents=True, exist_ok=True)
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        write_atomic(self.metadata / name, data)
        return int(signed.version)

    def _delegators(self, role: str, metadata: Any) -> list[Any]:
        """Return the metadata that say who may sign for ``role``: for a root itself and the root before it."""
        if role == "root":
            return [metadata, self.load("root")] if self.version("root") else [metadata]
        if role in ("targets", "snapshot", "timestamp"):
            return [self.load("root")]
        return [self.load("approved" if role.startswith(BIN_PREFIX) else "targets")]

    def _verifies(self, role: str, metadata: Any) -> bool:
        """Whether a client would accept who signed ``metadata``."""
        from tuf.api.exceptions import UnsignedMetadataError

        try:
            for delegator in self._delegators(role, metadata):
                delegator.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError:
            return False
        return True

    def roles(self) -> list[str]:
        """Name every targets role that something delegates to."""
        names = self._versions().keys() - {"root", "snapshot"}
        if any(name.startswith(BIN_PREFIX) for name in names):  # unreferenced bins are left by interrupted changes
            names = {name for name in names if not name.startswith(BIN_PREFIX)} | (
                set(self.approved_roles()) - {"approved"}
            )
        return sorted(names)

    def give(self, delegator: Any, role: str) -> None:
        """Let a root or targets role name exactly the keys that the settings name for ``role``."""
        known = delegator.roles[role] if hasattr(delegator, "roles") else delegator.delegations.roles[role]
        for keyid in list(known.keyids):
            delegator.revoke_key(keyid, role)
        for ref in self.refs(KEYS_OF[role]):
            delegator.add_key(ref.key, role)
        known.threshold = self.threshold(KEYS_OF[role])

    def delegate(self, *, extra_signers: list[Any] | None = None) -> None:
        """Bring the keys in root, targets and approved up to date with the settings, after a change of keys.

        ``extra_signers`` sign a root beside its new keys. Raises `DeployError` when the keys for that are not here.
        """
        root, targets = self.load("root"), self.load("targets")
        for name, metadata, roles in (
            ("root", root, root.signed.roles),
            ("targets", targets, targets.signed.delegations.roles if targets.signed.delegations else {}),
        ):
            changed = [role for role, known in roles.items() if self._differs(known.keyids, role)]
            for role in changed:
                self.give(metadata.signed, role)
            if changed:
                self.store(name, metadata, extra_signers=extra_signers)
        approved = self.load("approved")
        bins = approved.signed.delegations.succinct_roles if approved.signed.delegations else None
        if bins and self._differs(bins.keyids, "approved"):
            for keyid in list(bins.keyids):
                approved.signed.revoke_key(keyid)
            for ref in self.refs("quality"):
                approved.signed.add_key(ref.key)
            self.store("approved", approved)

    def _differs(self, keyids: Sequence[str], role: str) -> bool:
        """Whether the settings name a key that a role is not delegated to, as after every change of keys."""
        return not {ref.keyid for ref in self.refs(KEYS_OF[role])} <= set(keyids)

    def publish(self) -> int:
        """Sign a new snapshot and timestamp over what is on disk: the moment devices see a change.

        Every role is looked at as a client would: what has expired or is not signed by the keys of today is signed
        again where the keys are here, and refused where not. What online keys sign is renewed at half its life.
        A change of keys that was cut is carried out first.
        """
        from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

        if self.load("root").signed.expires <= self.now:
            raise DeployError("root has expired: no device would follow", hint="edge-tsfm deploy refresh DIR root")
        self.delegate()
        for role in sorted(self.roles(), key=lambda name: (name != "targets", name)):  # who delegates first
            metadata, group = self.load(role), self.group_of(role)
            left = metadata.signed.expires - self.now
            if left <= timedelta(0) and group not in ONLINE:
                raise DeployError(f"role {role} has expired", hint=f"edge-tsfm deploy refresh DIR {role}")
            ageing = group in ONLINE and left < timedelta(days=DAYS[role] / 2)
            if ageing or not self._verifies(role, metadata):
                self.store(role, metadata)
        meta = {f"{role}.json": MetaFile(self.version(role)) for role in self.roles()}
        if self.version("snapshot") and self.load("snapshot").signed.meta == meta:
            snapshot = self.load("snapshot")
            ageing = snapshot.signed.expires - self.now < timedelta(days=DAYS["snapshot"] / 2)
            if ageing or not self._verifies("snapshot", snapshot):  # the online key may be another now
                self.store("snapshot", snapshot)
        else:
            self.store("snapshot", Metadata(Snapshot(meta=meta)))
        signed = Timestamp(
            snapshot_meta=MetaFile(self.version("snapshot")),
            unrecognized_fields={"x-signed-at": int(self.now.timestamp())},
        )
        return self.store("timestamp", Metadata(signed))

    # --- approved targets ----------------------------------------------------------------------------------------

    def approved_roles(self) -> list[str]:
        """Name the roles that hold approved adapters."""
        delegations = self.load("approved").signed.delegations
        bins = delegations.succinct_roles if delegations else None
        return sorted(bins.get_roles()) if bins else ["approved"]

    def revocations(self) -> dict[str, Any]:
        """Return what is taken back: ring to files and minimum."""
        return dict(self.load("approved").signed.unrecognized_fields.get(REVOKED, {}))

    def set_revocations(self, ring: str, files: Sequence[str], minimum: int) -> None:
        """Write what is taken back on a ring into the approved role, where every monitor reads it."""
        metadata = self.load("approved")
        said = metadata.signed.unrecognized_fields.get(REVOKED, {})
        metadata.signed.unrecognized_fields[REVOKED] = {
            **said, ring: {"files": list(files), "minimum": minimum}
        }  # fmt: skip
        self.store("approved", metadata)

    def approved(self) -> dict[str, Any]:
        """Return every approved target, by path."""
        return {
            path: target for role in self.approved_roles() for path, target in self.load(role).signed.targets.items()
        }

    def approve_target(self, target: Any) -> str:
        """Add or replace an approved target, in its hash bin once there are bins; return the role it is in."""
        live = len({*self.approved(), target.path})
        if self.approved_roles() == ["approved"] and live >= BINS_FROM:
            self._into_bins()
        metadata = self.load("approved")
        role = "approved"
        delegations = metadata.signed.delegations
        if delegations and delegations.succinct_roles:
            role = delegations.succinct_roles.get_role_for_target(target.path)
            metadata = self.load(role)
        metadata.signed.targets[target.path] = target
        self.store(role, metadata)
        return str(role)

    def drop_target(self, path: str) -> str:
        """Take a target out of the approved role, or its hash bin; return the role. Raises `DeployError` without it."""
        for role in self.approved_roles():
            metadata = self.load(role)
            if metadata.signed.targets.pop(path, None) is not None:
                self.store(role, metadata)
                return role
        raise DeployError(f"{path} is not approved")

    def _into_bins(self) -> None:
        """Spread the approved targets over hash bins, so that one change costs a device one small bin."""
        from tuf.api.metadata import Delegations, Metadata, SuccinctRoles, Targets

        metadata = self.load("approved")
        keys = [ref.key for ref in self.refs("quality")]
        ids = [key.keyid for key in keys]
        succinct = SuccinctRoles(ids, self.threshold("quality"), BIN_BITS, BIN_PREFIX)
        bins: dict[str, dict[str, Any]] = {name: {} for name in succinct.get_roles()}
        for path, target in metadata.signed.targets.items():
            bins[succinct.get_role_for_target(path)][path] = target
        metadata.signed.delegations = Delegations(
            keys={key.keyid: key for key in keys}, roles=None, succinct_roles=succinct
        )
        metadata.signed.targets = {}
        # Bins first: should this stop half-way, the approved role on disk still holds everything itself.
        for name, targets in bins.items():
            self.store(name, Metadata(Targets(targets=targets)), delegator=metadata)
        self.store("approved", metadata)

    def put_target(self, path: str, data: bytes) -> Any:
        """Write a target's file under its hash and return its description."""
        from tuf.api.metadata import TargetFile

        info = TargetFile.from_data(path, data, ["sha256"])
        prefixed = info.get_prefixed_paths()[0]
        file = self.targets / prefixed
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, data)
        return info

    def target_bytes(self, info: Any) -> bytes:
        """Read a target's file."""
        return read_bounded(self.targets / info.get_prefixed_paths()[0], MAX_FILE)


def _limit(role: str) -> int:
    """Return how many bytes of a role's file a monitor reads."""
    from device_runtime.update.agent.repository import LIMITS

    kind = role if role in ("root", "timestamp", "snapshot") else "targets"
    return LIMITS[f"{kind}_max_length"]
