"""Status reports: what runs on a monitor, how the last update went. Never patient data: the fields are fixed here."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from device_runtime.errors import DeviceRuntimeError, OfflineError, StorageError
from device_runtime.files import read_bounded, write_atomic
from device_runtime.format.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE
from device_runtime.update.disk import PosixDisk
from device_runtime.update.field_store import published
from device_runtime.update.notes import Polled, Running, polled, running
from device_runtime.update.sealed import to_json
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots, slots_of
from device_runtime.update.web import open_url

TIMEOUT = 10.0  # seconds without a byte
DEADLINE = 20.0  # seconds for a whole report


@dataclass(frozen=True, kw_only=True)
class Report:
    """One monitor's state."""

    device: str
    channel: str  # the ring; reports called it so before that word
    base: str  # digest, hex
    state: str
    adapter: str | None  # SHA-256 of the blob that runs, hex; None: the base alone
    version: int | None
    sequence: int | None
    candidate_sequence: int | None  # staged or on trial
    failed_sequence: int  # highest that failed here; -1: none
    tries: int
    reason: str
    code: int  # of the last error (FORMAT.md §10); 0: none
    generation: int
    audit_head: str
    running: (
        str | None
    )  # SHA-256 of the blob that the forecasting process has up, hex; None: the base alone, or unknown
    problem: str  # why that is not what the record names; empty: nothing went wrong
    polled: float  # the last good poll, seconds since 1970; 0: never
    revocations_signed: float  # how new the newest list of revocations is, seconds since 1970; 0: none was read
    at: float  # seconds since 1970 by the monitor's clock
    own: str | None = None  # SHA-256 of what was learnt there and runs over it, hex
    own_generation: int | None = None
    quality: Mapping[str, Any] = field(default_factory=dict)  # signal -> sums of scores (`FieldQuality.published`)


def report_of(
    slots: Slots,
    *,
    ring: str,
    base: str,
    code: int = 0,
    now: Running | None = None,
    last: Polled | None = None,
    quality: Mapping[str, Any] | None = None,
) -> Report:
    """Describe what the record says, what runs ``now``, how the ``last`` polls went and how good forecasts were."""
    record, last = slots.record, last or Polled()
    runs = record.installed  # what the publisher decides on; what was learnt over it is the monitor's own
    # What another record's process left says nothing of this one.
    up = now if now and now.generation in (record.generation, -1) else Running(problem="")
    return Report(
        device=slots.device_id,
        channel=ring,
        base=base,
        state=record.state.value,
        adapter=runs.adapter if runs else None,
        version=runs.version if runs else None,
        sequence=runs.sequence if runs else None,
        candidate_sequence=record.candidate.sequence if record.candidate else None,
        failed_sequence=record.failed_sequence,
        tries=record.tries,
        reason=slots.problem or record.reason,
        code=code,
        generation=record.generation,
        audit_head=slots.audit.head,
        running=up.adapter,
        problem=slots.problem or up.problem,
        polled=last.good,
        revocations_signed=last.revocations_signed,
        at=round(slots.clock(), 3),
        own=record.own.adapter if record.own else None,
        own_generation=record.own.sequence if record.own else None,
        quality=quality or {},
    )


def base_of(config: DeviceConfig) -> str:
    """Return the digest of a monitor's base, hex; empty where its manifest cannot be read."""
    try:
        return hashlib.sha256(read_bounded(config.bundle / MANIFEST_FILE, MAX_MANIFEST_SIZE)).hexdigest()
    except DeviceRuntimeError:
        return ""


def report_on(config: DeviceConfig, slots: Slots, base: str, *, code: int = 0) -> str:
    """Send a monitor's report where its settings say; return why it could not be sent, empty when it was.

    A report that cannot be sent never changes anything: the next poll sends another.
    """
    if not config.report_to:
        return ""
    try:
        token = read_bounded(config.report_token, 4_096).decode().strip() if config.report_token else ""
        now, last = running(config.state), polled(config.state)
        quality = published(PosixDisk(config.state))
        report = report_of(slots, ring=config.ring, base=base, code=code, now=now, last=last, quality=quality)
        send(report, config.report_to, token=token)
    except (DeviceRuntimeError, UnicodeDecodeError) as error:
        return str(error)
    return ""


def reporter(config: DeviceConfig, base: str) -> Callable[[], None]:
    """Return what sends a report in the background: a process that forecasts does not wait for a network."""

    def send_one() -> None:
        report_on(config, slots_of(config), base)

    def start() -> None:
        with contextlib.suppress(RuntimeError):  # no thread to spare: the next poll's report says the same
            threading.Thread(target=send_one, daemon=True).start()

    return start


def to_value(report: Report) -> dict[str, Any]:
    """Encode a report as plain values."""
    return asdict(report)


def send(report: Report, to: str, *, token: str = "") -> None:
    """Write a report into a folder (one file for each device, replaced), or POST it.

    Raises `StorageError` for the folder, `OfflineError` for the address.
    """
    data = to_json(to_value(report))
    if "://" not in to:
        folder = Path(to)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"report folder {folder}: {error.strerror or error}") from error
        write_atomic(folder / f"{hashlib.sha256(report.device.encode()).hexdigest()[:32]}.json", data)
        return
    try:
        request = urllib.request.Request(  # noqa: S310 - `open_url` knows http and https alone
            to, data=data, headers={"Content-Type": "application/json"}, method="POST"
        )
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with open_url(
            request, TIMEOUT, until=time.monotonic() + DEADLINE, redirects=False
        ):  # a token and a report are for this address alone
            pass
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OfflineError(f"report to {to}: {type(error).__name__}: {error}") from error
