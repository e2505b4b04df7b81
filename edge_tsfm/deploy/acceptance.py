"""The acceptance gate: bounds that were written down, and pinned by their hash, before the adapter was made.

An adapter is judged against the frozen base *and* the adapter now in the field, over all windows and in each subgroup
that is large enough. Differences are relative to the other's value, in percent; lower is better for every metric here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import parse_json, parse_toml
from device_runtime.files import read_bounded
from edge_tsfm.deploy.evidence import EvaluationFile
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.evaluation.metrics import METRICS

MAX_EVALUATION = 16_777_216  # bytes
# What two evaluations must agree on before their figures may be compared: the same windows of the same data.
SAME_DATA = ("fingerprint", "channel", "interval", "split")
SAME_WINDOWS = ("context_length", "prediction_length", "windows", "patients", "scored")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The bound of one metric."""

    metric: str
    vs_base_percent: float  # the adapter may be at most this much worse than the base; negative: must be better
    vs_field_percent: float  # the same against the adapter in the field
    subgroup_percent: float  # the same in each subgroup, against the base and against the adapter in the field
    subgroup_min_patients: int = 20
    interval: bool = True  # the interval's upper end against the base must be below zero too

    def __post_init__(self) -> None:
        """Refuse a metric that no evaluation has, or of which lower is not better."""
        judged = [name for name, metric in METRICS.items() if metric.better == "lower"]
        if self.metric not in judged:
            raise ConfigError(f"metric {self.metric[:80]!r}: want one of {', '.join(judged)}")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The pinned gate: bounds, and the columns by which an evaluation must be broken down."""

    bounds: tuple[Bound, ...]
    subgroups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GateFile:
    """A ``gate.toml``."""

    bound: tuple[Bound, ...]
    subgroups: tuple[str, ...] = ()
    name: str = ""  # for people

    def __post_init__(self) -> None:
        """Refuse a gate that lets everything through."""
        if not self.bound:
            raise ConfigError("bound: want at least one [[bound]]")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison and its outcome."""

    what: str
    got: float | None  # percent
    bound: float | None
    passed: bool
    note: str = ""

    @property
    def sentence(self) -> str:
        """Format the outcome in words."""
        if self.got is None:
            return f"{self.what}: {self.note}"
        return f"{self.what}: {self.got:.6g}, at most {self.bound:g}"


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Every comparison; passed when all did."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the adapter is acceptable."""
        return bool(self.checks) and all(check.passed for check in self.checks)


def read_gate(data: bytes, where: Path) -> Gate:
    """Read a ``gate.toml``. Raises `ConfigError` for anything unknown, missing or of another type."""
    file = bind(GateFile, parse_toml(data, str(where), error=ConfigError), str(where), error=ConfigError)
    return Gate(bounds=file.bound, subgroups=file.subgroups)


def read_evaluation(path: Path) -> tuple[dict[str, Any], bytes]:
    """Read what ``edge-tsfm evaluate --json`` wrote: values, and the bytes they were read from. Raises `DataError`."""
    data = read_bounded(path, MAX_EVALUATION)
    value = parse_json(data, str(path), error=DataError)
    bind(EvaluationFile, value, str(path), error=DataError, ignore_unknown=True)
    return value, data


def check_bounds(
    gate: Gate, evaluation: Mapping[str, Any], field: Mapping[str, Any] | None, *, first: bool, name: str = "adapter"
) -> Acceptance:
    """Judge an evaluation. ``field`` is the evaluation of the adapter in the field, on the same windows.

    ``first`` says that no adapter is in the field yet; only then may ``field`` be missing. ``name`` is the forecaster
    to judge: "device" where the blob was scored on the device's runtime, else "calibrated" where it carries a
    calibration. Evaluations that cannot be read fail their checks.
    """
    try:
        return Acceptance(checks=tuple(_checks(gate, evaluation, field, first, name)))
    except (AttributeError, KeyError, OverflowError, TypeError) as error:
        raise DataError(f"not an evaluation: {error!r}", hint="edge-tsfm evaluate … --json") from error


def _checks(
    gate: Gate, evaluation: Mapping[str, Any], field: Mapping[str, Any] | None, first: bool, name: str
) -> Iterator[Check]:
    """Give every comparison."""
    models, subgroups = evaluation["models"], evaluation.get("subgroups", {})
    differ = "" if field is None else _differ(evaluation, field)
    for column in gate.subgroups:
        found = subgroups.get(column)
        yield Check(
            what=f"figures by {column}",
            got=None,
            bound=None,
            passed=bool(found),
            note=f"{len(found)} groups" if found else f"none: edge-tsfm evaluate --subgroup {column}",
        )
    for bound in gate.bounds:
        metric = bound.metric
        mine = models.get(name, {})
        yield _compare(f"{metric} against the base", mine, models["base"], metric, bound.vs_base_percent)
        if bound.interval:
            high = _upper_end(evaluation, name, metric)
            yield Check(
                what=f"{metric}: upper end of the interval against the base",
                got=high,
                bound=0.0,
                passed=high is not None and high < 0,
                note="in the metric's unit" if high is not None else "no interval",
            )
        if not first:
            what = f"{metric} against the adapter in the field"
            if field is None or differ:
                note = differ or "no evaluation of the adapter in the field"
                yield Check(what=what, got=None, bound=bound.vs_field_percent, passed=False, note=note)
            else:
                yield _compare(what, mine, _of_field(field, name), metric, bound.vs_field_percent)
        for column, groups in subgroups.items():
            for label, group in groups.items():
                yield from _group_checks(bound, name, column, label, group, None if first or differ else field)


def _group_checks(
    bound: Bound, name: str, column: str, label: str, group: Mapping[str, Any], field: Mapping[str, Any] | None
) -> Iterator[Check]:
    """Compare in one subgroup; one with too few patients is recorded and not judged."""
    metric, patients = bound.metric, group.get("patients", 0)
    where = f"{metric} where {column} is {label}"
    if patients < bound.subgroup_min_patients:
        note = f"{patients} patients, want {bound.subgroup_min_patients}"
        yield Check(what=where, got=None, bound=bound.subgroup_percent, passed=True, note=note)
        return
    mine = group["models"].get(name, {})
    yield _compare(f"{where}, against the base", mine, group["models"]["base"], metric, bound.subgroup_percent)
    if field is not None:
        other = field.get("subgroups", {}).get(column, {}).get(label)
        what = f"{where}, against the adapter in the field"
        if other is None:
            yield Check(what=what, got=None, bound=bound.subgroup_percent, passed=False, note="not evaluated there")
        else:
            yield _compare(what, mine, _of_field(other, name), metric, bound.subgroup_percent)


def _upper_end(evaluation: Mapping[str, Any], name: str, metric: str) -> float | None:
    """Return the upper end of the interval of ``name`` minus the base, or a bound above it; None: no interval.

    An evaluation has the intervals of the adapter minus the others, so that of another forecaster is bounded by two of
    them: (name - base) = (adapter - base) - (adapter - name).
    """
    high = _number(evaluation.get("adapter_minus_base", {}).get(metric, {}).get("high"))
    if name == "adapter" or high is None:
        return high
    low = _number(evaluation.get(f"adapter_minus_{name}", {}).get(metric, {}).get("low"))
    return None if low is None else high - low


def _of_field(group: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the figures of the adapter in the field, on the device or calibrated where both were."""
    figures: Mapping[str, Any] = group["models"].get(name) or group["models"]["adapter"]
    return figures


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return in what two evaluations were not made on the same windows with the same base; empty when they were."""
    pairs = {key: (one.get(key), other.get(key)) for key in SAME_WINDOWS}
    pairs |= {key: (one.get("data", {}).get(key), other.get("data", {}).get(key)) for key in SAME_DATA}
    unlike = [key for key, (first, second) in pairs.items() if first != second]
    if not unlike and one["models"]["base"] != other["models"]["base"]:
        unlike = ["figures of the base"]
    return f"evaluated on other windows: {', '.join(unlike)} differ" if unlike else ""


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
