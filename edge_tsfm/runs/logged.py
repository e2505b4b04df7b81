"""What loggers have in common: conversions of a run record to their tables and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_runtime.files import write_atomic

LONGEST = 500  # characters of a value; MLflow accepts 6,000, but tables look better with fewer


def shared(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run record that can be shared: without the paths of this machine."""
    if "base" not in record:
        return {name: value for name, value in record.items() if name != "folder"}  # the record of a pre-training
    config, base = record["config"], record["base"]
    said = {**config, "data": Path(config["data"]).name, "base": without_path(config["base"])}
    return {**record, "config": said, "base": {**base, "source": without_path(base["source"])}}


def without_path(base: str) -> str:
    """Return a base's hub id or bundled name unchanged, and only the name of a local folder."""
    return Path(base).name if Path(base).exists() or Path(base).is_absolute() else base


@dataclass(frozen=True, kw_only=True)
class Said:
    """A gate's verdict in the form that loggers need."""

    reason: str
    step: int  # of the best parameters
    figures: Mapping[str, float]  # those that are known


def verdict(record: Mapping[str, Any]) -> Said | None:
    """Return the verdict in a run record; None if there was no gate, as in pre-training."""
    if "gate" not in record:
        return None
    gate = record["gate"]
    low, high = gate["interval"]
    found = {"adapter": gate["adapter"], "base": gate["base"], "difference": gate["difference"], "low": low,
             "high": high, "accepted": float(gate["accepted"]), "patients": gate["patients"]}  # fmt: skip
    known = {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
    return Said(reason=str(gate["reason"]), step=int(record["training"]["best_step"]), figures=known)


def begun(out: Path, tool: str, begin: Callable[[], str]) -> str:
    """Return the tool's id for this folder's run: the id in the folder, else a new one, which is written there."""
    path = out / f"{tool}-run.txt"
    if path.exists():
        return path.read_text().strip()
    name = begin()
    write_atomic(path, f"{name}\n".encode())
    return name


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested tables with its dotted path; values that are None are left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        elif value is not None:
            yield f"{before}{key}", value


def as_text(value: Any) -> str:
    """Return a value as a short text."""
    return str(value)[:LONGEST]


def as_table(values: Mapping[str, Any]) -> str:
    """Return values as a Markdown table."""
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {as_text(value)} |" for key, value in values.items())])
