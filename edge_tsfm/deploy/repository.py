"""The update repository: TUF metadata as static files, and the few ways they may change.

Invariants: nothing a device reads is ever changed in place (names carry versions; ``timestamp.json`` is replaced last,
whole); a role is written only when the keys present meet its threshold, checked as a client would; what a command would
leave unusable is refused before anything is written.

    DIR/deploy.json     who signs what (public keys, thresholds, lifetimes)
    DIR/public/         what a web server or a stick carries: metadata/ and targets/
    DIR/records/        change records, also of refusals
    DIR/channels/       what each channel has been told; DIR/decisions/ why
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from device_runtime.files import read_bounded, write_atomic
from edge_tsfm.deploy.signers import KeyRef, signer_for
from edge_tsfm.errors import DeployError

DAYS = {"root": 365, "targets": 365, "approved": 365, "rollout": 14, "snapshot": 14, "timestamp": 7}
KEYS_OF = {
    "root": "root", "targets": "targets", "approved": "quality", "rollout": "rollout",
    "snapshot": "online", "timestamp": "online",
}  # fmt: skip
BIN_BITS = 5  # 32 hash bins
BINS_FROM = 50  # live adapters
BIN_PREFIX = "approved-bin"
MAX_FILE = 8_388_608  # bytes


class Repository:
    """One repository folder and the keys that are here now."""

    def __init__(self, folder: Path, keys: Path | None = None, *, now: datetime | None = None) -> None:
        self.folder, self.keys = folder, keys or folder / "keys"
        self.now = (now or datetime.now(UTC)).replace(microsecond=0)
        self.metadata, self.targets = folder / "public" / "metadata", folder / "public" / "targets"
        path = folder / "deploy.json"
        if not path.exists():
            raise DeployError(f"{folder} is not an update repository", hint="edge-tsfm deploy init")
        self.config: dict[str, Any] = json.loads(read_bounded(path, MAX_FILE))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep two publishers apart. Raises `DeployError` when another one is at work."""
        with (self.folder / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise DeployError(f"{self.folder} is in use by another command") from error
            yield

    # --- keys ----------------------------------------------------------------------------------------------------

    def refs(self, group: str) -> list[KeyRef]:
        """Return a group's keys."""
        return [KeyRef(**value) for value in self.config["keys"][group]]

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
            return int(json.loads(path.read_bytes())["signed"]["version"]) if path.exists() else 0
        suffix = f".{role}.json"
        versions = [path.name.removesuffix(suffix) for path in self.metadata.glob(f"*{suffix}")]
        return max((int(version) for version in versions if version.isdigit()), default=0)

    def load(self, role: str) -> Any:
        """Read a role's newest metadata. Raises `DeployError` when it cannot be read."""
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata

        name = "timestamp.json" if role == "timestamp" else f"{self.version(role)}.{role}.json"
        try:
            return Metadata.from_bytes(read_bounded(self.metadata / name, MAX_FILE))
        except RepositoryError as error:
            raise DeployError(f"{self.metadata / name}: {error}") from error

    def store(self, role: str, metadata: Any, *, extra_signers: list[Any] | None = None) -> int:
        """Sign a role's next version and write it; return the version.

        Raises `DeployError` when the keys here do not meet the threshold that a client will ask for.
        """
        from tuf.api.exceptions import UnsignedMetadataError
        from tuf.api.metadata import Metadata
        from tuf.api.serialization.json import JSONSerializer

        signed = metadata.signed
        signed.version = self.version(role) + 1
        signed.expires = self.now + timedelta(days=DAYS.get(role, DAYS["approved"]))
        copy = Metadata(signed)
        group = self.group_of(role)
        signers = [signer for ref in self.refs(group) if (signer := signer_for(ref, self.keys))]
        # More signatures than wanted are bytes at every poll; a root keeps all, so that keys may leave later.
        wanted = len(signers) if role == "root" else self.threshold(group)
        for signer in [*signers[:wanted], *(extra_signers or ())]:
            copy.sign(signer, append=True)
        data = copy.to_bytes(JSONSerializer(compact=True))
        try:
            for delegator in self._delegators(role, copy):
                delegator.signed.verify_delegate(role, copy.signed_bytes, copy.signatures)
        except (UnsignedMetadataError, ValueError) as error:
            raise DeployError(
                f"role {role}: {error}",
                hint=f"the {group} keys must be at hand: {self.threshold(group)} of {len(self.refs(group))} (--keys)",
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
        """Name every targets role on disk."""
        names = {path.name.split(".", 1)[1].removesuffix(".json") for path in self.metadata.glob("*.*.json")}
        return sorted(names - {"root", "snapshot"})

    def publish(self) -> int:
        """Sign a new snapshot and timestamp over what is on disk: the moment devices see a change."""
        from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

        if self.load("root").signed.expires <= self.now:
            raise DeployError("root has expired: no device would follow", hint="edge-tsfm deploy rotate-key root")
        for role in self.roles():
            if self.load(role).signed.expires <= self.now:
                if self.group_of(role) != "rollout":
                    raise DeployError(f"role {role} has expired", hint=f"edge-tsfm deploy refresh DIR {role}")
                self.store(role, self.load(role))
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
        return [role for role in self.roles() if role.startswith(BIN_PREFIX)] or ["approved"]

    def approved(self) -> dict[str, Any]:
        """Return every approved target, by path."""
        return {
            path: target for role in self.approved_roles() for path, target in self.load(role).signed.targets.items()
        }

    def approve_target(self, target: Any) -> None:
        """Add or replace an approved target, in its hash bin once there are bins."""
        live = len(self.approved())
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
        self.store("approved", metadata)
        for name, targets in bins.items():
            self.store(name, Metadata(Targets(targets=targets)))

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
