"""The record of an act on a ring, an in-toto Statement and a page: start, stage, halt, revocation, downgrade.

An approval and a refusal have a record of their own (`edge_tsfm.deploy.change_record`), with the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.format.blob import blob_size
from device_runtime.update.rollout import adapter_target
from edge_tsfm.deploy.change_record import STATEMENT, tool_versions, write_record
from edge_tsfm.deploy.evidence import Act, StatementFile
from edge_tsfm.deploy.ledger import Ring
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.signers import digest
from edge_tsfm.errors import DataError

PREDICATE = "https://edge-tsfm.dev/adapter-act/v1"
MEANS = {  # act -> what monitors do then
    "start": "monitors of the first stage fetch it at their next poll, prove it and try it",
    "advance": "monitors of the next stage fetch it too",
    "finish": "every monitor of the last stage was offered it; nothing changes",
    "stop": "no further monitor installs it; those that have it keep it",
    "pause": "the stage is not widened",
    "resume": "the stage may be widened again",
    "halt": "no further monitor installs it; those that have it keep it",
    "revoke": "monitors that have it go back at their next poll, to the previous adapter or the base",
    "downgrade": "monitors take the earlier adapter again, under a new sequence, as an update",
}


def record_act(
    repository: Repository, ring: Ring, act: str, files: Sequence[str], *, who: str, why: str, offered: Any
) -> Path | None:
    """Write the record of one act about adapters; return its path, None for what changes nothing.

    ``files`` are SHA-256 of signed files, ``offered`` is the ring's roll-out after the act, or None.
    """
    if act not in MEANS:
        return None
    group = "quality" if act in ("revoke", "downgrade") else "rollout"
    keys = sorted(repository.load("approved").signatures) if group == "quality" else _online(repository)
    value = {
        "_type": STATEMENT,
        "subject": [subject for file in files for subject in _subjects(repository, ring, file)],
        "predicateType": PREDICATE,
        "predicate": {
            "decision": act,
            "means": MEANS[act],
            "channel": ring.name,
            "who": who,
            "why": why,
            "at": repository.now.isoformat(),
            "adapters": [
                {
                    **_named(ring, file),
                    "version": ring.versions.get(file),
                    "sequence": ring.sequences.get(file),
                    "revoked": not ring.live(file),
                }
                for file in files
            ],
            "revoked": [_named(ring, file) for file in ring.revoked],
            "security_minimum": ring.security_minimum,
            "offered": _offer(ring, offered),
            "approvals": {group: keys},
            "tools": tool_versions(),
        },
    }
    return write_record(repository.folder / "records", value)


def acts(repository: Repository, ring: str, act: str) -> list[Act]:
    """Return every record of one kind of act on a ring, oldest first. Raises `DataError` for a damaged one."""
    found = []
    for path in sorted((repository.folder / "records").glob(f"*-{act}*.json")):
        record = bind(StatementFile, read_json(path, error=DataError), str(path), error=DataError, ignore_unknown=True)
        if record.predicateType == PREDICATE:
            act_of = bind(Act, record.predicate, str(path), error=DataError, ignore_unknown=True, at=("predicate",))
            found.append(act_of)
    return [one for one in found if one.channel == ring]


def _named(ring: Ring, file: str) -> dict[str, Any]:
    """Name an adapter as monitors do, and its signed file; one that was not approved here only by its signed file."""
    return {"adapter": ring.adapters.get(file), "signed_file": file}


def _subjects(repository: Repository, ring: Ring, file: str) -> list[dict[str, Any]]:
    """Name a signed file and the blob in it."""
    target = repository.approved().get(adapter_target(ring.name, file))
    if target is None:
        return [{"name": f"signed file {file[:16]} for {ring.name}", "digest": {"sha256": file}}]
    data = repository.target_bytes(target)
    name = f"{ring.called(file)} for {ring.name}"
    return [{"name": name, "digest": {"sha256": digest(data[: blob_size(data)])}},
            {"name": f"{name}, signed file", "digest": {"sha256": file}}]  # fmt: skip


def _online(repository: Repository) -> list[str]:
    """Return the ids of the roll-out keys that are here."""
    return sorted(ref.keyid for ref, _ in repository.signers("rollout"))


def _offer(ring: Ring, state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Describe what a ring is offered after the act."""
    if state is None:
        return None
    stage = state["stages"][state["stage"]]
    kept = ("sequence", "halt", "paused", "finished")
    return {**_named(ring, state["file"]), **{name: state[name] for name in kept},
            "permille": stage["permille"], "groups": list(stage["groups"]),
            "went_back": list(state.get("went_back", ()))}  # fmt: skip
