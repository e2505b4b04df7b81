"""Learning on a monitor where another program, the C service, makes the forecasts and learns.

That program checks no signatures of envelopes and writes no record. So this module does both from outside: it writes
what the settings and the verified envelope allow to a file that the program reads, and takes the program's promotions
and demotions into the record and the log, by the checks and in the words of the Python host. The record decides which
blob should run; a decision that it does not take is answered with the blob that it names, or with none.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from pathlib import Path
from typing import Any

from device_runtime.adapt import within
from device_runtime.errors import (
    ChecksumError,
    DeviceRuntimeError,
    FormatError,
    SettingsError,
    SizeError,
    StateError,
    StorageError,
)
from device_runtime.files import IrregularError, read_bounded, remove_temporaries, sync_folder, write_atomic
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import blob_size, decode
from device_runtime.format.learning import LEARNING_FILE, Learning
from device_runtime.format.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE, Manifest
from device_runtime.update import envelope_store, notes
from device_runtime.update.adapt_asked import asked_now
from device_runtime.update.adapt_mode import Allowed, allowed
from device_runtime.update.adapt_use import binding_of, plausible_of, typical_of
from device_runtime.update.disk import PosixDisk
from device_runtime.update.lifecycle import Entry, State
from device_runtime.update.service_health import service_facts
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots

RULES, OWN, DECISION = "rules", "own", "decision-"  # files in the folder that both share
VERSION = 1
MAX_SIZE = 1_048_576  # bytes of each
MAX_HEAD = 8_192  # bytes of a decision's first line
MODE = 0o640
# Numbers of AdaptRules, in the order of the file; whole ones are written without a point.
NUMBERS = (
    "windows", "new_windows", "kept_windows", "keep_on_disk", "stride", "steps", "batch", "first_windows", "rate",
    "average", "blend", "anchor", "clip_norm", "cap_tensor", "cap_day", "clip_spreads", "scored_windows",
    "promote_evidence", "promote_stays", "demote_evidence", "long_stream", "offset_rate", "width_rate",
    "cap_tracking", "seed",
)  # fmt: skip
CLEAN = ("jump_spreads", "jump_share", "jump_steps", "flat_steps")


def exchange(slots: Slots, config: DeviceConfig, folder: Path, *, starting: bool = False) -> str:
    """Take the service's decisions into the record, then write what it may learn and what should run; return a message.

    Call it with the state locked, behind `device_runtime.update.service_trial.hand_over`. Raises `StorageError`; then
    what was not taken yet is taken the next time.
    """
    if starting:
        for name in (RULES, OWN):
            remove_temporaries(folder / name)
    envelope, why, _ = envelope_store.read(PosixDisk(config.state), config)
    may = allowed(config.adapt, envelope, why)
    said, problem = collect(slots, config, folder), ""
    own = slots.load(slots.record.own) if slots.record.runs_own and slots.record.own else b""
    try:
        lines = rules_of(slots, config, may)
    except DeviceRuntimeError as error:
        problem = f"nothing is learnt: {error}"
        lines, said = None, [*said, problem]
    if lines is None:
        _remove(folder / RULES)
    else:
        _replace(folder / RULES, _sealed("".join(f"{name} {value}\n" for name, value in lines).encode()))
    _replace(folder / OWN, _sealed(own))
    note = notes.Learning(mode=may.mode, why=may.why, problem=problem, at=round(time.time(), 3))
    notes.leave(config.state, notes.LEARNING, note)
    return "; ".join([*said, f"learning: {may.mode}{f' ({may.why})' if may.why else ''}"])


def collect(slots: Slots, config: DeviceConfig, folder: Path) -> list[str]:
    """Take what the service has decided since the last time, oldest first; return messages."""
    said: list[str] = []
    waiting = {path: re.fullmatch(rf"{DECISION}([1-9][0-9]{{0,3}})", path.name) for path in folder.glob(f"{DECISION}*")}
    said += [f"{path.name} is no decision's name: left alone" for path, named in waiting.items() if named is None]
    numbered = {int(named[1]): path for path, named in waiting.items() if named is not None}
    for _, path in sorted(numbered.items()):
        try:
            head, blob = _decision(read_bounded(path, MAX_SIZE, follow=False))
            said.append(_take(slots, config, head, blob))
        except IrregularError as error:
            said.append(f"{path.name} is not taken, and left alone: {error}")
            continue
        except StorageError:
            raise
        except DeviceRuntimeError as error:
            said.append(f"{path.name} is not taken: {error}")
        _remove(path)
    return [one for one in said if one]


def _take(slots: Slots, config: DeviceConfig, head: dict[str, Any], blob: bytes) -> str:
    """Take one decision; a second time it changes nothing."""
    own, learnt = slots.record.own, service_facts(head["learnt"])
    if head["event"] == "demote":
        if own is None or own.adapter != head["adapter"]:
            return ""
        slots.demote(head["reason"], who="device", learnt=learnt)
        return f"demoted: {head['reason']}"
    if own is not None and own.adapter == head["adapter"]:
        return ""
    envelope, why, _ = envelope_store.read(PosixDisk(config.state), config)
    may = allowed(config.adapt, envelope, why)
    if envelope is None or not may.may.promote:
        raise SettingsError(f"the mode is {may.mode}{f': {may.why}' if may.why else ''}")
    asked = asked_now(slots) if config.adapt.promote == "hand" else None
    if asked is None and config.adapt.promote == "hand":
        raise SettingsError('promote is "hand", and nobody has asked for it')
    if slots.record.state is State.TRIAL:
        raise SettingsError("an adapter is on trial")
    if hashlib.sha256(blob).hexdigest() != head["adapter"]:
        raise FormatError("it has another blob than it names")
    adapter, current = decode(blob), slots.record.current
    under = slots.load(current) if current else None
    parent = None if under is None else under[: blob_size(under)]
    cap = envelope.bounded(config.adapt).cap_tensor
    within.check(adapter, parent, envelope, manifest_of(config), cap=cap)
    generation = _generation(adapter)
    if generation <= slots.record.generation:  # of a file that could not be removed, or that somebody put back
        raise StateError(f"its generation {generation} is not later than the record's {slots.record.generation}")
    entry = Entry(file=head["adapter"], adapter=head["adapter"], version=adapter.version, sequence=generation)
    reason = f"better over {learnt['stays_judged']} stays, evidence {learnt['evidence']:g}"
    who = "device" if asked is None else asked.who
    reason = reason if asked is None else asked.reason
    slots.promote(blob, entry, over=head["over"] or None, reason=reason, who=who, learnt=learnt)
    return f"promoted: {reason}"


def _generation(adapter: Adapter) -> int:
    """Return how many changes the record had before this adapter, and one. Raises `FormatError`."""
    said = str(adapter.metadata.get("generation", ""))
    if not re.fullmatch(r"[0-9]{1,15}", said):
        raise FormatError(f"it has no generation, but {said[:20]!r}")
    return int(said)


def rules_of(slots: Slots, config: DeviceConfig, may: Allowed) -> list[tuple[str, object]] | None:
    """Return the lines of the file of rules; None where nothing is learnt. Raises `DeviceRuntimeError`."""
    if not may.may.learn:
        return None
    manifest, installed = manifest_of(config), slots.record.installed
    signed = slots.load(installed) if installed else None
    blob = None if signed is None else signed[: blob_size(signed)]
    under = None if blob is None else decode(blob)
    data = read_bounded(config.bundle / LEARNING_FILE, MAX_MANIFEST_SIZE)
    learning = Learning.parse(data)
    envelope, _, _ = envelope_store.read(PosixDisk(config.state), config)
    bound, rules = binding_of(config, manifest, under), may.rules
    places = learning.indices(manifest)
    tensors = tuple(index for index, _ in within.tensors_of(envelope, manifest)) if envelope else places
    low, high = plausible_of(bound)
    level, spread = typical_of(config, manifest, under)
    asked = rules.promote == "hand" and asked_now(slots) is not None
    by_device = (asked or rules.promote == "device") and slots.record.state is not State.TRIAL
    values = {name: getattr(rules, name) for name in NUMBERS if name != "keep_on_disk"}
    values["keep_on_disk"] = int(rules.keep_windows == "disk")
    return [
        ("version", VERSION), ("base", manifest.digest.hex()), ("learning", hashlib.sha256(data).hexdigest()),
        ("has_parent", int(blob is not None)), ("parent", hashlib.sha256(blob or b"").hexdigest()),
        ("envelope", envelope.sequence if envelope else 0), ("generation", slots.record.generation),
        ("by_device", int(by_device)), ("tensors", ",".join(map(str, tensors))), ("signal", bound.name),
        ("code", bound.code), ("unit", bound.unit), ("interval_us", bound.interval_us),
        ("context_length", min(bound.context_length, manifest.context_length)),
        ("prediction_length", min(bound.prediction_length, manifest.prediction_length)), ("low", _real(bound.low)),
        ("high", _real(bound.high)), ("plausible_low", _real(low)), ("plausible_high", _real(high)),
        ("gap_steps", rules.gap_steps), ("ms_per_minute", _real(rules.ms_per_minute)),
        ("kib_per_day", rules.kib_per_day), ("level", _real(level)), ("spread", _real(spread)),
        ("mode", may.mode.value), *((name, _number(values[name])) for name in NUMBERS),
        *((name, _number(getattr(rules.clean, name))) for name in CLEAN),
    ]  # fmt: skip


def manifest_of(config: DeviceConfig) -> Manifest:
    """Read the bundle's manifest. Raises what reading and `Manifest.parse` raise."""
    return Manifest.parse(read_bounded(config.bundle / MANIFEST_FILE, MAX_MANIFEST_SIZE))


def _decision(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Take a decision's file apart. Raises `ChecksumError`, `FormatError`."""
    digest, _, body = data.partition(b" ")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ChecksumError("it is damaged: its SHA-256 does not match")
    line, _, blob = body.partition(b"\n")
    try:
        head = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"it is no decision of this release: {error!r}") from error
    texts = ("adapter", "event", "over", "reason")
    if not isinstance(head, dict) or not all(isinstance(head.get(name), str) for name in texts) or len(line) > MAX_HEAD:
        raise FormatError("it is no decision of this release")
    if (
        head["event"] not in ("promote", "demote")
        or head.get("blob") != len(blob)
        or not isinstance(head.get("learnt"), dict)
    ):
        raise FormatError(f"it is no decision of this release: {head['event'][:20]!r}")
    return head, blob


def _no_number(said: str) -> float:
    raise ValueError(f"{said} is no number")


def _sealed(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b" " + body


def _replace(path: Path, data: bytes) -> None:
    """Write the file if its content differs."""
    try:
        same = path.exists() and read_bounded(path, MAX_SIZE, follow=False) == data
    except (IrregularError, SizeError):  # somebody else's: replaced
        same = False
    if not same:
        write_atomic(path, data, mode=MODE)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror or error}") from error


def _real(value: float) -> str:
    """A number without loss, as C's strtod reads it."""
    return float(value).hex() if math.isfinite(value) else str(value)


def _number(value: float) -> str:
    return _real(value) if isinstance(value, float) else str(int(value))
