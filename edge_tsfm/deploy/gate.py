"""The acceptance gate: bounds that were written down, and pinned by their hash, before the adapter was made.

An adapter is judged against the frozen base *and* the adapter now in the field, over all windows and in each subgroup
that is large enough. Differences are relative to the other's value, in percent; lower is better for every metric here.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_tsfm.errors import ConfigError, DataError

KEYS: dict[str, type | tuple[type, ...]] = {
    "metric": str, "vs_base_percent": (int, float), "vs_field_percent": (int, float),
    "subgroup_percent": (int, float), "subgroup_min_patients": int, "interval": bool,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What one metric must keep to."""

    metric: str
    vs_base_percent: float  # the adapter may be at most this much worse than the base; negative: must be better
    vs_field_percent: float  # the same against the adapter in the field
    subgroup_percent: float  # the same in each subgroup, against the base
    subgroup_min_patients: int = 20
    interval: bool = True  # the interval's upper end against the base must be below zero too


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison and its outcome."""

    what: str
    got: float | None  # percent
    bound: float
    passed: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Every comparison; passed when all did."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the adapter is acceptable."""
        return bool(self.checks) and all(check.passed for check in self.checks)


def read_gate(data: bytes, where: Path) -> tuple[Bound, ...]:
    """Read a ``gate.toml``. Raises `ConfigError` for anything unknown, missing or of another type."""
    try:
        value = tomllib.loads(data.decode())
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    rows = value.pop("bound", [])
    value.pop("name", None)
    if value or not isinstance(rows, list) or not rows:
        raise ConfigError(f"{where}: want name and at least one [[bound]]; unknown: {', '.join(value) or 'nothing'}")
    bounds = []
    for number, row in enumerate(rows, start=1):
        for name, item in row.items():
            if name not in KEYS or not isinstance(item, KEYS[name]) or isinstance(item, bool) != (name == "interval"):
                raise ConfigError(f"{where}: bound {number}: {name} = {item!r}", hint=f"known: {', '.join(KEYS)}")
        try:
            bounds.append(Bound(**row))
        except TypeError as error:
            raise ConfigError(f"{where}: bound {number}: {error}") from error
    return tuple(bounds)


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read what ``edge-tsfm evaluate --json`` wrote. Raises `DataError`."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not an evaluation: {error}") from error
    if not isinstance(value, dict) or not {"adapter", "base"} <= set(value.get("models", ())):
        raise DataError(f"{path}: want models with adapter and base", hint="edge-tsfm evaluate … --json")
    return value


def judge(
    bounds: tuple[Bound, ...], evaluation: Mapping[str, Any], field: Mapping[str, Any] | None, *, first: bool
) -> Verdict:
    """Judge an evaluation. ``field`` holds the models of the evaluation of the adapter in the field, on the same data.

    ``first`` says that no adapter is in the field yet; only then may ``field`` be missing.
    """
    return Verdict(checks=tuple(_checks(bounds, evaluation, field, first)))


def _checks(
    bounds: tuple[Bound, ...], evaluation: Mapping[str, Any], field: Mapping[str, Any] | None, first: bool
) -> Iterator[Check]:
    """Give every comparison."""
    models = evaluation["models"]
    in_field = models.get("field") or (field or {}).get("models", {}).get("adapter")
    same = field is None or all(field.get(key) == evaluation.get(key) for key in ("windows", "patients", "scored"))
    for bound in bounds:
        metric = bound.metric
        yield _compare(f"{metric} against the base", models["adapter"], models["base"], metric, bound.vs_base_percent)
        if bound.interval:
            high = _number(evaluation.get("adapter_minus_base", {}).get(metric, {}).get("high"))
            yield Check(
                what=f"{metric}: upper end of the interval against the base",
                got=high,
                bound=0.0,
                passed=high is not None and high < 0,
                note="in the metric's unit",
            )
        if not first:
            what = f"{metric} against the adapter in the field"
            if in_field is None or not same:
                note = "no evaluation of the adapter in the field" if in_field is None else "evaluated on other windows"
                yield Check(what=what, got=None, bound=bound.vs_field_percent, passed=False, note=note)
            else:
                yield _compare(what, models["adapter"], in_field, metric, bound.vs_field_percent)
        for column, groups in evaluation.get("subgroups", {}).items():
            for label, group in groups.items():
                if group.get("patients", group.get("windows", 0)) >= bound.subgroup_min_patients:
                    what = f"{metric} where {column} is {label}, against the base"
                    mine, base = group["models"]["adapter"], group["models"]["base"]
                    yield _compare(what, mine, base, metric, bound.subgroup_percent)


def _compare(what: str, mine: Mapping[str, Any], other: Mapping[str, Any], metric: str, bound: float) -> Check:
    """Compare two values of one metric; a value that is missing or not finite does not pass."""
    one, two = (_number(models.get(metric, {}).get("value")) for models in (mine, other))
    if one is None or two is None or two <= 0:
        return Check(what=what, got=None, bound=bound, passed=False, note="no value")
    percent = round(100 * (one - two) / two, 6)
    return Check(what=what, got=percent, bound=bound, passed=percent <= bound, note="percent, lower is better")


def _number(value: Any) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None
