"""What loggers have in common: a run's record in the forms that their tables and figures have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_runtime.files import write_atomic

LONGEST = 500  # characters of a value; MLflow takes 6,000, tables look better with fewer


def shared(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's record as others may see it: without the paths of this machine."""
    if "base" not in record:
        return {name: value for name, value in record.items() if name != "folder"}  # of a pre-training
    config, base = record["config"], record["base"]
    said = {**config, "data": Path(config["data"]).name, "base": without_path(config["base"])}
    return {**record, "config": said, "base": {**base, "source": without_path(base["source"])}}


def without_path(base: str) -> str:
    """Return a base's hub id or bundled name as it is, and of a folder here only its name."""
    return Path(base).name if Path(base).exists() or Path(base).is_absolute() else base


@dataclass(frozen=True, kw_only=True)
class Said:
    """A gate's verdict as tools keep it."""

    reason: str
    step: int  # of the best parameters
    figures: Mapping[str, float]  # those that are known


def verdict(record: Mapping[str, Any]) -> Said | None:
    """Return the verdict in a run's record; None where nothing was judged, as in pre-training."""
    if "gate" not in record:
        return None
    gate = record["gate"]
    low, high = gate["interval"]
    found = {"adapter": gate["adapter"], "base": gate["base"], "difference": gate["difference"], "low": low,
             "high": high, "accepted": float(gate["accepted"]), "patients": gate["patients"]}  # fmt: skip
    known = {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
    return Said(reason=str(gate["reason"]), step=int(record["training"]["best_step"]), figures=known)


def begun(out: Path, tool: str, begin: Callable[[], str]) -> str:
    """Return the tool's name of this folder's run: the one that was begun, else that of a new one, written down."""
    path = out / f"{tool}-run.txt"
    if path.exists():
        return path.read_text().strip()
    name = begin()
    write_atomic(path, f"{name}\n".encode())
    return name


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Give every value of nested tables by its path; what nobody said is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        elif value is not None:
            yield f"{before}{key}", value


def as_text(value: Any) -> str:
    """Return a value as a short text."""
    return str(value)[:LONGEST]


def as_table(values: Mapping[str, Any]) -> str:
    """Lay values out as Markdown."""
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {as_text(value)} |" for key, value in values.items())])
