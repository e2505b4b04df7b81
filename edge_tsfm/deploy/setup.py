"""Making keys and a repository, and changing keys later."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from device_runtime.files import read_bounded, write_atomic
from edge_tsfm.deploy.gate import read_gate
from edge_tsfm.deploy.repository import KEYS_OF, Repository
from edge_tsfm.deploy.signers import ROLES, KeyRef, digest, make_file_key, public_bytes, signer_for
from edge_tsfm.errors import DeployError

PUBLIC = "keys.json"
THRESHOLDS = {"root": 2, "targets": 2, "quality": 2, "rollout": 1, "online": 1, "adapter": 1}


def keygen(folder: Path, counts: dict[str, int] | None = None) -> dict[str, list[KeyRef]]:
    """Make every key of a repository in ``folder`` and list the public parts in ``keys.json``."""
    if (folder / PUBLIC).exists():
        raise DeployError(f"{folder / PUBLIC} is there already", hint="keys are never overwritten")
    keys = {
        group: [make_file_key(folder, f"{group}-{number}") for number in range(1, count + 1)]
        for group, count in {**ROLES, **(counts or {})}.items()
    }
    value = {group: [ref.to_value() for ref in refs] for group, refs in keys.items()}
    write_atomic(folder / PUBLIC, json.dumps(value, indent=1, sort_keys=True).encode())
    return keys


def init(
    folder: Path, keys: Path, gate: Path, *, thresholds: dict[str, int] | None = None, now: datetime | None = None
) -> Repository:
    """Make a repository: root, targets with its two delegations, an empty first publication.

    The gate's digest goes into the offline ``targets`` role: it is pinned before any adapter is judged.
    """
    from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets

    if (folder / "deploy.json").exists():
        raise DeployError(f"{folder} is a repository already")
    known = json.loads(read_bounded(keys / PUBLIC, 1 << 20))
    wanted = {**THRESHOLDS, **(thresholds or {})}
    for group, threshold in wanted.items():
        have = len({value["keyid"] for value in known.get(group, ())})
        if not 1 <= threshold <= have:
            raise DeployError(f"{group}: threshold {threshold}, but {have} keys", hint="nobody could ever sign for it")
    shared = {value["keyid"] for value in known["online"]} & {value["keyid"] for value in known["root"]}
    if shared:
        raise DeployError("a root key is also the online key: it would have to stay on a server")
    data = read_bounded(gate, 65_536)
    read_gate(data, gate)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gates").mkdir(exist_ok=True)
    write_atomic(folder / "gates" / f"{digest(data)}.toml", data)
    config = {"keys": known, "thresholds": wanted, "gate": digest(data)}
    write_atomic(folder / "deploy.json", json.dumps(config, indent=1, sort_keys=True).encode())
    repository = Repository(folder, keys, now=now)
    root = Root(consistent_snapshot=True)
    for role in ("root", "targets", "snapshot", "timestamp"):
        _give(root, role, repository)
    repository.store("root", Metadata(root))
    keys_of = {role: [ref.key for ref in repository.refs(KEYS_OF[role])] for role in ("approved", "rollout")}
    delegations = Delegations(
        keys={key.keyid: key for group in keys_of.values() for key in group},
        roles={
            role: DelegatedRole(
                role,
                [key.keyid for key in keys_of[role]],
                repository.threshold(KEYS_OF[role]),
                terminating=True,
                paths=paths,
            )
            for role, paths in {"approved": ["approved/*/*"], "rollout": ["rollout/*"]}.items()
        },
    )
    targets = Targets(delegations=delegations, unrecognized_fields={"x-gate": config["gate"]})
    repository.store("targets", Metadata(targets))
    for role in ("approved", "rollout"):
        repository.store(role, Metadata(Targets()))
    repository.publish()
    return repository


def _give(root: Any, role: str, repository: Repository) -> None:
    """Name a top-level role's keys in a root."""
    for ref in repository.refs(KEYS_OF[role]):
        root.add_key(ref.key, role)
    root.roles[role].threshold = repository.threshold(KEYS_OF[role])


def device_settings(repository: Repository, *, channel: str, device_id: str, url: str) -> str:
    """Return a monitor's ``device.toml`` for this repository."""
    keys = ", ".join(f'"{public_bytes(ref).hex()}"' for ref in repository.refs("adapter"))
    return (
        f'device_id = "{device_id}"\nchannel = "{channel}"\nbundle = "bundle"\nstate = "state"\nroot = "root.json"\n'
        f'repository = "{url}"\ntrusted_keys = [{keys}]\nthreshold = {repository.threshold("adapter")}\n'
    )


def rotate_key(repository: Repository, group: str, old: str, new: KeyRef) -> None:
    """Replace one key of a group; a root that changes is signed by old and new keys both.

    Raises `DeployError` for the adapter keys, which devices hold in their settings, and whenever the result could not
    be signed.
    """
    from tuf.api.metadata import Root

    if group == "adapter":
        raise DeployError(
            "adapter keys are in every monitor's settings, not in the repository's metadata",
            hint="sign with the spare adapter key; bring new trusted_keys with the monitor's next configuration",
        )
    refs = repository.refs(group)
    if old not in {ref.keyid for ref in refs}:
        raise DeployError(f"{group} has no key {old[:16]}", hint=", ".join(ref.keyid[:16] for ref in refs))
    leaving = [ref for ref in refs if ref.keyid == old]
    staying = [ref.to_value() for ref in refs if ref.keyid != old]
    repository.config["keys"][group] = [*staying, new.to_value()]
    available = sum(signer_for(ref, repository.keys) is not None for ref in repository.refs(group))
    if available < repository.threshold(group):
        raise DeployError(f"{group}: {available} keys here after the change, {repository.threshold(group)} must sign")
    if group in ("root", "targets", "online"):
        metadata = repository.load("root")
        root = metadata.signed
        assert isinstance(root, Root)
        for role in (name for name, of in KEYS_OF.items() if of == group):
            root.revoke_key(old, role)
            root.add_key(new.key, role)
        extra = [signer for ref in leaving if (signer := signer_for(ref, repository.keys))] if group == "root" else []
        repository.store("root", metadata, extra_signers=extra)
    else:
        metadata = repository.load("targets")
        for role in (name for name, of in KEYS_OF.items() if of == group):
            metadata.signed.revoke_key(old, role)
            metadata.signed.add_key(new.key, role)
        repository.store("targets", metadata)
        approved = repository.load("approved")
        if group == "quality" and approved.signed.delegations:
            approved.signed.revoke_key(old)
            approved.signed.add_key(new.key)
            repository.store("approved", approved)
    repository.save_config()
    affected = {role for role, of in KEYS_OF.items() if of == group}
    for role in [*(r for r in repository.roles() if repository.group_of(r) == group)]:
        if role in affected or role.startswith("approved-bin"):
            repository.store(role, repository.load(role))
    repository.publish()
