"""Roll-outs on a repository: start, step, pause, halt, revoke, downgrade; each change signed, published and logged.

A decision is first recorded, then logged, then signed and published. If a command dies in between, the next one that
publishes (`publish` from its timer) carries the decision out.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.errors import DeviceRuntimeError
from device_runtime.files import write_atomic
from device_runtime.nearest import did_you_mean
from device_runtime.update.rollout import Rollout, encode, rollout_target
from edge_tsfm.deploy.acts import record_act
from edge_tsfm.deploy.approve import relist, revoke
from edge_tsfm.deploy.controller import (
    Action,
    Decision,
    Stage,
    check_plan,
    confirming,
    count,
    decide,
    went_back,
    why_failed,
)
from edge_tsfm.deploy.field_figures import field_figures
from edge_tsfm.deploy.ledger import Ring, RolloutState, read_ring, read_rollout, ring_names, rollouts, write_rollout
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.errors import DeployError

MAX_REPORT = 1_048_576  # bytes; what 8 signals, 2 forecasters and 64 levels come to is a quarter of it
MAX_REPORTS = 200_000


def start(repository: Repository, ring: str, prefix: str, stages: tuple[Stage, ...], *, who: str) -> dict[str, Any]:
    """Offer an approved adapter to the first stage. Raises `DeployError` when devices would refuse it."""
    check_plan(stages)
    known = _approved_for(repository, ring)
    file = known.find(prefix)
    if not known.live(file):
        raise DeployError(f"{known.called(file)} is revoked: devices would refuse it")
    last = read_rollout(repository, ring)
    if last and known.sequences[file] < last["sequence"]:
        raise DeployError(
            f"{known.called(file)} is sequence {known.sequences[file]}, the ring was offered {last['sequence']}: "
            "devices would refuse it",
            hint=f"edge-tsfm deploy downgrade {repository.folder} {ring} {known.adapters[file][:16]}",
        )
    # What every monitor has when this one ends early; roll-outs begun by older releases do not say.
    before = None if last is None else last["file"] if last["finished"] else last.get("before")
    state = {
        "channel": ring, "file": file, "before": before, "sequence": known.sequences[file], "stage": 0,
        "halt": False, "paused": False, "finished": False, "approved": "", "began": repository.now.timestamp(),
        "stages": [asdict(stage) for stage in stages],
    }  # fmt: skip
    return _apply(repository, state, "start", f"stage {stages[0].permille}", who)


def step(repository: Repository, ring: str, reports: Path, *, who: str, approve: bool = False) -> Decision:
    """Read the reports, decide, and do it.

    A monitor that confirmed and went back since counts as failed. A roll-out that is finished is judged again: it is
    stopped when too many went back, and `DeployError` says that it is finished where not.
    """
    state = _stoppable(repository, ring)
    kept = bind(RolloutState, state, f"roll-out of {ring}", error=DeployError)
    stages = kept.stages
    found = read_reports(reports)
    about: dict[str, Any] = {"ring": ring, "sequence": kept.sequence}
    confirmed, failed = count(found, **about)
    back = went_back(found, **about, confirmed=kept.confirmed)
    failed += len(set(back) - _failing(found, **about))
    known = sorted(set(kept.confirmed) | confirming(found, **about))
    state = {**state, "confirmed": known, "went_back": back}
    decision = decide(
        stages,
        state["stage"],
        confirmed=confirmed,
        failed=failed,
        seconds=repository.now.timestamp() - state["began"],
        approved=approve,
        paused=state["paused"],
        field=field_figures(found, ring=ring, adapter=read_ring(repository, ring).adapters[kept.file]),
        reason=why_failed(found, **about),
    )
    if state["finished"] and decision.action is not Action.STOP:
        write_rollout(repository, state)
        raise DeployError(
            f"ring {ring} has no roll-out under way: finished, {confirmed} confirmed, {failed} failed"
            f"{': ' + ', '.join(back) + ' went back' if back else ''}",
            hint="edge-tsfm deploy rollout",
        )
    changes: dict[Action, dict[str, Any]] = {
        Action.ADVANCE: {"stage": state["stage"] + 1, "began": repository.now.timestamp()},
        Action.STOP: {"halt": True, "because": decision.why},
        Action.FINISH: {"finished": True},
    }
    if decision.action in changes:
        _apply(repository, {**state, **changes[decision.action]}, decision.action.value, decision.why, who)
    else:
        write_rollout(repository, state)
        log(repository, ring, decision.action.value, decision.why, who)
    return decision


def pause(repository: Repository, ring: str, *, paused: bool, who: str, why: str) -> None:
    """Keep the stage where it is, or let it go on. Failures still stop it."""
    _apply(repository, {**_running(repository, ring), "paused": paused}, "pause" if paused else "resume", why, who)


def halt(repository: Repository, ring: str, *, who: str, why: str) -> None:
    """Stop offering the adapter, also after the last stage; monitors that have it keep it."""
    state = read_rollout(repository, ring)
    if state is None:
        raise DeployError(f"nothing is rolled out on ring {ring}")
    _apply(repository, {**state, "halt": True, "because": why}, "halt", why, who)


def take_back(repository: Repository, ring: str, prefix: str, *, older: bool, who: str, why: str) -> str:
    """Revoke an adapter and return its name: each device that has it goes back to its previous one, or the base."""
    known = _approved_for(repository, ring)
    file = known.find(prefix)
    after = revoke(repository, known, file, older=older)
    log(repository, ring, "revoke", f"{known.called(file)}{' and all before it' if older else ''}: {why}", who)
    state = read_rollout(repository, ring)
    if state and not after.live(state["file"]):
        state = {**state, "halt": True, "because": f"revoked: {why}"}
        write_rollout(repository, state)
    gone = [one for one in after.sequences if known.live(one) and not after.live(one)] or [file]
    record_act(repository, after, "revoke", gone, who=who, why=why, offered=state)
    publish(repository)
    return known.adapters[file]


def downgrade(
    repository: Repository, ring: str, prefix: str, stages: tuple[Stage, ...], *, who: str, why: str
) -> dict[str, Any]:
    """Offer an earlier adapter again, under a new sequence."""
    check_plan(stages)
    known = _approved_for(repository, ring)
    file = known.find(prefix)
    after = relist(repository, known, file)
    log(repository, ring, "downgrade", f"{known.called(file)} again as sequence {after.sequences[file]}: {why}", who)
    record_act(repository, after, "downgrade", [file], who=who, why=why, offered=read_rollout(repository, ring))
    return start(repository, ring, file, stages, who=who)


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """Read every device's last report; one that cannot be read is passed over, and so counts as missing.

    Reports come from machines that may be broken, or not ours: whatever they hold must not keep the others from being
    counted. A device that is there twice counts once, with what it changed last.
    """
    if not folder.is_dir():
        raise DeployError(f"{folder} is not a folder of reports")
    reports: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json"))[:MAX_REPORTS]:
        try:
            value = read_json(path, limit=MAX_REPORT) if path.is_file() else None
        except (DeviceRuntimeError, OSError):
            continue
        if isinstance(value, dict) and isinstance(value.get("device"), str):
            before = reports.get(value["device"])
            if before is None or _generation(value) >= _generation(before):
                reports[value["device"]] = value
    return list(reports.values())


def _generation(report: dict[str, Any]) -> int:
    """Return how often a device's record had changed; -1 where the report does not say."""
    value = report.get("generation")
    return value if type(value) is int else -1


def log(repository: Repository, ring: str, action: str, why: str, who: str) -> None:
    """Add a line to a ring's decisions."""
    path = repository.folder / "decisions" / f"{ring}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"at": repository.now.isoformat(), "action": action, "why": why, "who": who}
    write_atomic(path, (path.read_bytes() if path.exists() else b"") + json.dumps(line).encode() + b"\n")


def publish(repository: Repository) -> int:
    """Sign and publish what was decided, also what a command that died left undone; return the timestamp's version."""
    metadata = repository.load("rollout")
    known = {path: target.hashes["sha256"] for path, target in metadata.signed.targets.items()}
    for state in rollouts(repository):
        info = repository.put_target(rollout_target(state["channel"]), encode(_document(state)))
        if known.get(info.path) != info.hashes["sha256"]:
            metadata.signed.targets[info.path] = info
    if known != {path: target.hashes["sha256"] for path, target in metadata.signed.targets.items()}:
        repository.store("rollout", metadata)
    return repository.publish()


def _document(state: dict[str, Any]) -> Rollout:
    """Return what is published to monitors about a roll-out."""
    stage = state["stages"][state["stage"]]
    return Rollout(
        channel=state["channel"],
        sequence=state["sequence"],
        signed_file=state["file"],
        permille=stage["permille"],
        groups=tuple(stage["groups"]),
        salt=f"{state['channel']}-{state['sequence']}",
        halt=state["halt"],
    )


def _failing(reports: list[dict[str, Any]], *, ring: str, sequence: int) -> set[str]:
    """Return the devices of a ring that failed a sequence."""
    return {str(one["device"]) for one in reports if count([one], ring=ring, sequence=sequence) == (0, 1)}


def _approved_for(repository: Repository, ring: str) -> Ring:
    """Read a ring that adapters are approved for. Raises `DeployError` for another."""
    known = read_ring(repository, ring)
    if not known.sequences:
        meant = did_you_mean(ring, ring_names(repository))
        raise DeployError(f"ring {ring}: no adapter is approved for it", hint=f"{meant}edge-tsfm deploy approve")
    return known


def _stoppable(repository: Repository, ring: str) -> dict[str, Any]:
    """Return a roll-out that is under way or finished."""
    state = read_rollout(repository, ring)
    return state if state and state["finished"] and not state["halt"] else _running(repository, ring)


def _running(repository: Repository, ring: str) -> dict[str, Any]:
    """Return a roll-out that can still change."""
    state = read_rollout(repository, ring)
    if state is None or state["halt"] or state["finished"]:
        what = "none" if state is None else "halted" if state["halt"] else "finished"
        meant = "" if state else did_you_mean(ring, ring_names(repository))
        raise DeployError(f"ring {ring} has no roll-out under way: {what}", hint=f"{meant}edge-tsfm deploy rollout")
    return state


def _apply(repository: Repository, state: dict[str, Any], action: str, why: str, who: str) -> dict[str, Any]:
    """Write a decision down, log and record it, then sign and publish it."""
    write_rollout(repository, state)
    log(repository, state["channel"], action, why, who)
    ring = read_ring(repository, state["channel"])
    record_act(repository, ring, action, [state["file"]], who=who, why=why, offered=state)
    publish(repository)
    return state
