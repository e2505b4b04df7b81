"""The record of an act on a channel, an in-toto Statement and a page: start, stage, halt, revocation, downgrade.

An approval and a refusal have a record of their own (`edge_tsfm.deploy.record`), with the evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_runtime.blob import blob_size
from device_runtime.rollout import adapter_target
from edge_tsfm.deploy.ledger import Channel
from edge_tsfm.deploy.record import STATEMENT, tool_versions, write_record
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.signers import digest

PREDICATE = "https://edge-tsfm.dev/adapter-act/v1"
MEANS = {  # act -> what monitors do then
    "start": "monitors of the first stage fetch it at their next poll, prove it and try it",
    "advance": "monitors of the next stage fetch it too",
    "finish": "every monitor of the last stage was offered it; nothing changes",
    "stop": "nobody else gets it; those who have it keep it",
    "pause": "the stage is not widened",
    "resume": "the stage may be widened again",
    "halt": "nobody else gets it; those who have it keep it",
    "revoke": "monitors that have it go back at their next poll, to the previous adapter or the base",
    "downgrade": "monitors take the earlier adapter again, under a new sequence, as an update",
}


def record_act(
    repository: Repository, channel: Channel, act: str, files: Sequence[str], *, who: str, why: str, offered: Any
) -> Path | None:
    """Write the record of one act about adapters; return its path, None for what changes nothing.

    ``files`` are SHA-256 of signed files, ``offered`` is the channel's roll-out after the act, or None.
    """
    if act not in MEANS:
        return None
    group = "quality" if act in ("revoke", "downgrade") else "rollout"
    keys = sorted(repository.load("approved").signatures) if group == "quality" else _online(repository)
    value = {
        "_type": STATEMENT,
        "subject": [subject for file in files for subject in _subjects(repository, channel.name, file)],
        "predicateType": PREDICATE,
        "predicate": {
            "decision": act,
            "means": MEANS[act],
            "channel": channel.name,
            "who": who,
            "why": why,
            "at": repository.now.isoformat(),
            "adapters": [
                {
                    "file": file,
                    "version": channel.versions.get(file),
                    "sequence": channel.sequences.get(file),
                    "revoked": not channel.live(file),
                }
                for file in files
            ],
            "revoked": list(channel.revoked),
            "security_minimum": channel.security_minimum,
            "offered": _offer(offered),
            "approvals": {group: keys},
            "tools": tool_versions(),
        },
    }
    return write_record(repository.folder / "records", value)


def acts(repository: Repository, channel: str, act: str) -> list[dict[str, Any]]:
    """Return the predicates of every record of one kind of act on a channel, oldest first."""
    found = []
    for path in sorted((repository.folder / "records").glob(f"*-{act}*.json")):
        value = json.loads(path.read_bytes())
        if value["predicateType"] == PREDICATE and value["predicate"]["channel"] == channel:
            found.append(value["predicate"])
    return found


def _subjects(repository: Repository, channel: str, file: str) -> list[dict[str, Any]]:
    """Name a signed file and the blob in it."""
    target = repository.approved().get(adapter_target(channel, file))
    signed = {"name": f"{channel}/{file[:16]}.etsa with signatures", "digest": {"sha256": file}}
    if target is None:
        return [signed]
    data = repository.target_bytes(target)
    return [{"name": f"{channel}/{file[:16]}.etsa", "digest": {"sha256": digest(data[: blob_size(data)])}}, signed]


def _online(repository: Repository) -> list[str]:
    """Return the ids of the roll-out keys that are here."""
    return sorted(ref.keyid for ref, _ in repository.signers("rollout"))


def _offer(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Say what a channel is offered after the act."""
    if state is None:
        return None
    stage = state["stages"][state["stage"]]
    kept = ("file", "sequence", "halt", "paused", "finished")
    return {**{name: state[name] for name in kept}, "permille": stage["permille"], "groups": list(stage["groups"]),
            "went_back": list(state.get("went_back", ()))}  # fmt: skip
