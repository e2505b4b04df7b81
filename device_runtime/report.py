"""Status reports: what runs on a monitor, how the last update went. Never patient data: the fields are fixed here."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from device_runtime.errors import StorageError
from device_runtime.files import write_atomic
from device_runtime.sealed import to_json
from device_runtime.slots import Slots
from device_runtime.web import open_url

TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Report:
    """One monitor's state."""

    device: str
    channel: str
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
    at: float  # seconds since 1970 by the monitor's clock


def report_of(slots: Slots, *, channel: str, base: str, code: int = 0) -> Report:
    """Describe what the record says."""
    record = slots.record
    runs = record.runs
    return Report(
        device=slots.device_id,
        channel=channel,
        base=base,
        state=record.state.value,
        adapter=runs.adapter if runs else None,
        version=runs.version if runs else None,
        sequence=runs.sequence if runs else None,
        candidate_sequence=record.candidate.sequence if record.candidate else None,
        failed_sequence=record.failed_sequence,
        tries=record.tries,
        reason=slots.damaged or record.reason,
        code=code,
        generation=record.generation,
        audit_head=slots.audit.head,
        at=round(slots.clock(), 3),
    )


def to_value(report: Report) -> dict[str, Any]:
    """Encode a report as plain values."""
    return asdict(report)


def send(report: Report, to: str, *, token: str = "") -> None:
    """Write a report into a folder (one file for each device, replaced), or POST it. Raises `StorageError`."""
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
        with open_url(request, TIMEOUT, redirects=False):  # a token and a report are for this address alone
            pass
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StorageError(f"report to {to}: {type(error).__name__}: {error}") from error
