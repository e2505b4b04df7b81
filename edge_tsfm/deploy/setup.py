"""Making keys and a repository, and changing keys later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from device_runtime.binder import bind_value
from device_runtime.documents import read_json
from device_runtime.files import read_bounded, write_atomic
from device_runtime.update.settings import DeviceConfig
from edge_tsfm.deploy.acceptance import read_gate
from edge_tsfm.deploy.ledger import PREFIX, read_ring
from edge_tsfm.deploy.repository import KEYS_OF, Repository
from edge_tsfm.deploy.signers import ROLES, KeyRef, digest, make_file_key, public_bytes, signer_for
from edge_tsfm.errors import DeployError

PUBLIC = "keys.json"
THRESHOLDS = {"root": 2, "targets": 2, "quality": 2, "rollout": 1, "online": 1, "adapter": 1}


def keygen(folder: Path, counts: dict[str, int] | None = None) -> dict[str, list[KeyRef]]:
    """Make every key of a repository in ``folder`` and list the public parts in ``keys.json``."""
    if (folder / PUBLIC).exists():
        raise DeployError(f"{folder / PUBLIC} already exists", hint="keys are never overwritten")
    keys = {
        group: [make_file_key(folder, f"{group}-{number}") for number in range(1, count + 1)]
        for group, count in {**ROLES, **(counts or {})}.items()
    }
    value = {group: [ref.to_value() for ref in refs] for group, refs in keys.items()}
    write_atomic(folder / PUBLIC, json.dumps(value, indent=1, sort_keys=True).encode())
    return keys


def init(
    folder: Path,
    keys: Path,
    gate: Path,
    *,
    more_keys: Sequence[Path] = (),
    thresholds: dict[str, int] | None = None,
    now: datetime | None = None,
) -> Repository:
    """Make a repository: root, targets with its two delegations, an empty first publication.

    The gate's digest goes into the offline ``targets`` role: it is pinned before any adapter is judged.
    """
    if (folder / "deploy.json").exists():
        raise DeployError(f"{folder} is already a repository")
    path = keys / PUBLIC
    known = read_json(path, limit=1 << 20, error=DeployError, hint=f"edge-tsfm deploy keygen {keys}")
    bind_value(Mapping[str, tuple[KeyRef, ...]], known, str(path), error=DeployError)
    wanted = {**THRESHOLDS, **(thresholds or {})}
    for group, threshold in wanted.items():
        have = len({json.dumps(value["public"]["keyval"], sort_keys=True) for value in known.get(group, ())})
        if not 1 <= threshold <= have:
            raise DeployError(f"{group}: threshold {threshold}, but {have} keys", hint="nobody could sign for it")
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
    try:
        return _first_publication(Repository(folder, keys, more_keys=more_keys, now=now))
    except BaseException:  # half a repository would answer the next attempt with "is a repository already"
        shutil.rmtree(folder / "public", ignore_errors=True)
        (folder / "deploy.json").unlink(missing_ok=True)
        raise


def _first_publication(repository: Repository) -> Repository:
    """Sign root, targets with its two delegations, and publish them empty."""
    from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets

    root = Root(consistent_snapshot=True)
    for role in ("root", "targets", "snapshot", "timestamp"):
        repository.give(root, role)
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
    targets = Targets(delegations=delegations, unrecognized_fields={"x-gate": repository.config["gate"]})
    repository.store("targets", Metadata(targets))
    for role in ("approved", "rollout"):
        repository.store(role, Metadata(Targets()))
    repository.publish()
    return repository


def device_settings(repository: Repository, *, ring: str, device_id: str, url: str) -> str:
    """Return a monitor's ``device.toml`` for this repository.

    Raises `FormatError` for what no monitor would accept, and `DeployError` for a ring of which nobody has said
    what its monitors forecast.
    """
    keys = [public_bytes(ref) for ref in repository.refs("adapter")]
    threshold = repository.threshold("adapter")
    DeviceConfig(
        device_id=device_id, ring=ring, bundle=Path("bundle"), state=Path("state"), repository=url,
        trusted_keys=tuple(keys), threshold=threshold,
    )  # fmt: skip
    known = read_ring(repository, ring)
    known.require_signal()
    said = {"signal": known.signal, "unit": known.unit, "interval": known.interval}
    values = {
        "device_id": device_id, "ring": ring, **{name: text for name, text in said.items() if text},
        "bundle": "bundle", "state": "state", "root": "root.json",
        "repository": url, "trusted_keys": [key.hex() for key in keys], "threshold": threshold, "signed_only": True,
    }  # fmt: skip
    # A JSON text, number or list of texts is a TOML one.
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def key_id(repository: Repository, group: str, prefix: str) -> str:
    """Return the id of the one key of a group that starts with ``prefix``. Raises `DeployError`.

    Also for the adapter keys, which devices hold in their settings and no metadata can change.
    """
    if group == "adapter":
        raise DeployError(
            "adapter keys are in every monitor's settings, not in the repository's metadata",
            hint="sign with the spare adapter key; bring new trusted_keys with the monitor's next configuration",
        )
    known = [ref.keyid for ref in repository.refs(group)]
    found = [keyid for keyid in known if keyid.startswith(prefix)]
    if len(found) != 1 or len(prefix) < PREFIX:
        raise DeployError(
            f"{group}: {len(found)} keys start with {prefix[:16]!r}, want 1",
            hint=", ".join(keyid[:16] for keyid in known),
        )
    return found[0]


def rotate_key(repository: Repository, group: str, old: str, new: KeyRef) -> None:
    """Replace one key of a group; a root that changes is signed by old and new keys both.

    Raises `DeployError` as `key_id`, and whenever the result could not be signed.
    """
    old = key_id(repository, group, old)
    refs = repository.refs(group)
    leaving = [ref for ref in refs if ref.keyid == old]
    staying = [ref.to_value() for ref in refs if ref.keyid != old]
    if new.public["keyval"] in [ref.public["keyval"] for ref in refs]:
        raise DeployError(f"{group}: the new key is one of its keys already")
    repository.config["keys"][group] = [*staying, new.to_value()]
    available = len(repository.signers(group))
    if available < repository.threshold(group):
        raise DeployError(f"{group}: {available} keys here after the change, {repository.threshold(group)} must sign")
    extra = [
        signer
        for ref in leaving
        for folder in (repository.keys, *repository.more_keys)
        if group == "root" and (signer := signer_for(ref, folder))
    ]
    versions = repository.version("root"), repository.version("targets")
    repository.save_config()  # first: should the rest be cut, the next `publish` knows the new key and goes on
    try:
        repository.delegate(extra_signers=extra)
    except DeployError:
        if versions == (repository.version("root"), repository.version("targets")):  # nothing was published
            repository.config["keys"][group] = [ref.to_value() for ref in refs]
            repository.save_config()
        raise
    repository.publish()  # signs again what the key signed
