"""The roll-out controller: stages, thresholds, soak, approval. Pure: a plan, reports and a time go in, a decision out.

Thresholds follow hawkBit's: an error threshold fires when it is *exceeded*, not when it is met; a success threshold is
satisfied when it is met; nothing is decided from no devices at all. Counts come first, percentages second: one percent
of two hundred monitors is two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import parse_toml
from edge_tsfm.deploy.field_figures import Figure
from edge_tsfm.errors import ConfigError

HOUR = 3600.0  # seconds
MAX_PLAN = 65_536  # bytes
MAX_REASON = 400  # characters of a device's own words
FIGURES = {  # limit of a stage -> whom it compares with
    "max_wql_vs_base_percent": "base",
    "max_wql_vs_previous_percent": "previous",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a roll-out. Valid once built."""

    permille: int
    groups: tuple[str, ...] = ()
    min_reports: int = 1  # devices that must have confirmed or failed before anything is decided
    success_percent: float = 90.0  # least share of those that must have confirmed
    max_failures: int = 0  # more stops the roll-out
    max_failure_percent: float = 5.0  # more stops the roll-out, once min_reports are in
    soak_hours: float = 24.0  # since the stage began
    approval: bool = False  # a person must approve the next stage
    max_wql_vs_base_percent: float | None = None  # allowed excess of WQL over the base's, in the field; None: no limit
    max_wql_vs_previous_percent: float | None = None  # the same against the previous adapter

    def __post_init__(self) -> None:
        """Refuse thresholds that mean nothing."""
        if not 0 <= self.permille <= 1000:
            raise ConfigError(f"permille {self.permille}: want 0 to 1000")
        if self.min_reports < 1 or self.max_failures < 0 or self.soak_hours < 0:
            raise ConfigError(
                f"min_reports {self.min_reports}, max_failures {self.max_failures}, soak_hours {self.soak_hours}: "
                "want at least 1, 0 and 0"
            )
        for name in ("success_percent", "max_failure_percent"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(f"{name} {getattr(self, name)}: want 0 to 100")
        for name, percent in self.limits.items():
            if not -90 <= percent <= 1000:
                raise ConfigError(f"{name} {percent:g}: want -90 to 1000")

    @property
    def limits(self) -> dict[str, float]:
        """The limits on field quality that the stage has, by their names."""
        named = {name: getattr(self, name) for name in FIGURES}
        return {name: percent for name, percent in named.items() if percent is not None}


DEFAULT_PLAN = (
    Stage(permille=10, min_reports=2, approval=True),
    Stage(permille=100, min_reports=5),
    Stage(permille=1000, min_reports=10, max_failures=2),
)


class Action(StrEnum):
    """What the controller does next."""

    WAIT = "wait"
    ADVANCE = "advance"
    ASK = "ask"  # for a person's approval
    STOP = "stop"  # halt: too many failures
    FINISH = "finish"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """An action, why, and the figures it rests on."""

    action: Action
    why: str
    confirmed: int
    failed: int
    figure: str = ""  # the limit that stopped it, or that is waited for


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan's file: ``[[stage]]`` tables. Valid once built."""

    stage: tuple[Stage, ...]

    def __post_init__(self) -> None:
        """Refuse stages that do not follow each other."""
        check_plan(self.stage)


def read_plan(data: bytes, where: str) -> tuple[Stage, ...]:
    """Read ``[[stage]]`` tables. Raises `ConfigError` for unknown keys, or a share that shrinks."""
    return bind(Plan, parse_toml(data, where, error=ConfigError), where, error=ConfigError).stage


def check_plan(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Refuse an empty plan and one that would take devices out again."""
    if not stages:
        raise ConfigError("plan: want at least one [[stage]]")
    for before, after in pairwise(stages):
        if after.permille < before.permille or not set(before.groups) <= set(after.groups):
            raise ConfigError(f"plan: {after.permille} after {before.permille}: a stage must contain the one before")
    return stages


def count(reports: Iterable[Mapping[str, Any]], *, ring: str, sequence: int) -> tuple[int, int]:
    """Count the devices of a ring that confirmed, and that failed, one sequence."""
    confirmed = failed = 0
    for report in reports:
        if report.get("channel") != ring:
            continue
        if report.get("failed_sequence") == sequence:
            failed += 1
        elif report.get("sequence") == sequence and report.get("candidate_sequence") is None:
            confirmed += 1
    return confirmed, failed


def why_failed(reports: Iterable[Mapping[str, Any]], *, ring: str, sequence: int) -> str:
    """Return which device that failed a sequence gave which reason, as its health window's figures; empty without any.

    Reports come from machines that may be broken: what cannot be printed is left out, and a long reason is cut.
    """
    said = [
        (str(report.get("device")), str(report.get("reason")))
        for report in reports
        if count([report], ring=ring, sequence=sequence) == (0, 1) and report.get("reason")
    ]
    if not said:
        return ""
    device, reason = min(said)
    text = f"{device[:MAX_REASON]}: {reason[:MAX_REASON]}"
    return "".join(one for one in text if one.isprintable())


def confirming(reports: Iterable[Mapping[str, Any]], *, ring: str, sequence: int) -> set[str]:
    """Return the devices of a ring that confirmed a sequence."""
    return {str(report.get("device")) for report in reports if count([report], ring=ring, sequence=sequence) == (1, 0)}


def went_back(
    reports: Iterable[Mapping[str, Any]], *, ring: str, sequence: int, confirmed: Collection[str]
) -> list[str]:
    """Return the devices that had ``confirmed`` a sequence, or failed with it, and now run something older.

    A monitor that reports nothing is not among them, nor one that has gone on to a newer sequence.
    """
    back = []
    for report in reports:
        runs = report.get("sequence")
        older = runs is None or (type(runs) is int and runs < sequence)
        known = report.get("device") in confirmed or report.get("failed_sequence") == sequence
        if report.get("channel") == ring and known and (older or report.get("failed_sequence") == sequence):
            back.append(str(report.get("device")))
    return sorted(set(back))


def decide(
    stages: tuple[Stage, ...],
    index: int,
    *,
    confirmed: int,
    failed: int,
    seconds: float,
    approved: bool = False,
    paused: bool = False,
    field: Mapping[str, Figure] = MappingProxyType({}),
    reason: str = "",
) -> Decision:
    """Decide what follows stage ``index`` that began ``seconds`` ago.

    ``field`` has the figures of `field_figures`: a stage with a limit stops when the whole interval is above it, and
    goes on only when none of it is. ``reason`` is why one of those that failed did (`why_failed`).
    """
    stage = stages[index]
    total = confirmed + failed
    because = f": {reason}" if reason else ""

    def say(action: Action, why: str, figure: str = "") -> Decision:
        return Decision(action=action, why=why, confirmed=confirmed, failed=failed, figure=figure)

    if failed > stage.max_failures:
        return say(Action.STOP, f"{failed} failures, at most {stage.max_failures}{because}", "max_failures")
    if total >= stage.min_reports and 100 * failed > stage.max_failure_percent * total:
        why = f"{failed} of {total} failed, at most {stage.max_failure_percent:g} %{because}"
        return say(Action.STOP, why, "max_failure_percent")
    for name, percent in stage.limits.items():
        figure = field.get(FIGURES[name])
        if figure is not None and figure.low > percent:
            return say(Action.STOP, f"WQL against the {FIGURES[name]} {figure}, {name} {percent:g}", name)
    if paused:
        return say(Action.WAIT, "paused")
    if total < stage.min_reports:
        return say(Action.WAIT, f"{total} of {stage.min_reports} reports")
    if 100 * confirmed < stage.success_percent * total:
        return say(Action.WAIT, f"{confirmed} of {total} confirmed, at least {stage.success_percent:g} %")
    for name, percent in stage.limits.items():
        figure = field.get(FIGURES[name])
        if figure is None:
            return say(Action.WAIT, f"not enough steps were scored against the {FIGURES[name]} for {name}", name)
        if figure.high > percent:
            return say(
                Action.WAIT, f"WQL against the {FIGURES[name]} {figure}: not yet within {name} {percent:g}", name
            )
    if seconds < stage.soak_hours * HOUR:
        return say(Action.WAIT, f"soaking: {seconds / HOUR:.1f} of {stage.soak_hours:g} h")
    if index + 1 == len(stages):
        return say(Action.FINISH, f"{confirmed} confirmed, {failed} failed in the last stage")
    if stage.approval and not approved:
        return say(Action.ASK, f"stage {stage.permille} is good; a person must approve {stages[index + 1].permille}")
    return say(Action.ADVANCE, f"{confirmed} confirmed, {failed} failed: on to {stages[index + 1].permille}")
