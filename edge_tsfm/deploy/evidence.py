"""Which keys and types an evaluation, a change record or the source of a bill of materials must have to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_tsfm.errors import DataError

HINT = "edge-tsfm evaluate RUN --json > FILE"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure and its interval; null where it is undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


Figures = Mapping[str, Mapping[str, Figure]]  # forecaster -> metric -> figure


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """The figures of one subgroup."""

    models: Figures
    patients: int = 0

    def __post_init__(self) -> None:
        """Refuse figures that are compared with nothing."""
        _with_base(self.models)


@dataclass(frozen=True, kw_only=True)
class EvaluationFile:
    """What ``edge-tsfm evaluate --json`` wrote, as far as a gate reads it."""

    models: Figures
    subgroups: Mapping[str, Mapping[str, Subgroup]] = field(default_factory=dict)  # column -> label -> figures
    adapter_minus_base: Mapping[str, Figure] = field(default_factory=dict)
    adapter_minus_calibrated: Mapping[str, Figure] = field(default_factory=dict)
    adapter_minus_device: Mapping[str, Figure] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse figures that are compared with nothing."""
        _with_base(self.models)


def _with_base(models: Figures) -> None:
    if missing := [name for name in ("adapter", "base") if name not in models]:
        raise DataError(f"models: {missing[0]} is missing: want adapter and base", hint=HINT)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a change record is about."""

    digest: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class JudgedFigures:
    """The evaluation in a change record."""

    models: Figures
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class FrozenPart:
    """What did not change."""

    base: str
    tensors_touched: int


@dataclass(frozen=True, kw_only=True)
class AdapterPart:
    """What changed."""

    parameters: int


@dataclass(frozen=True, kw_only=True)
class Predicate:
    """What a change record says of its subject."""

    evaluation: JudgedFigures
    frozen: FrozenPart
    adapter: AdapterPart


@dataclass(frozen=True, kw_only=True)
class RecordFile:
    """A change record, as far as the bill of materials reads it."""

    subject: tuple[Subject, ...]
    predicate: Predicate

    @property
    def file(self) -> str:
        """The signed file's SHA-256."""
        return self.subject[-1].digest["sha256"]

    def __post_init__(self) -> None:
        """Refuse a record about nothing."""
        if not self.subject or "sha256" not in self.subject[-1].digest:
            raise DataError("subject: want at least one, the last with digest.sha256")


@dataclass(frozen=True, kw_only=True)
class StatementFile:
    """Any record: what kind it is, before its predicate is looked at."""

    predicateType: str  # noqa: N815 - in-toto's name
    predicate: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ActOn:
    """One adapter that an act was about."""

    signed_file: str  # SHA-256


@dataclass(frozen=True, kw_only=True)
class Act:
    """The record of an act, as far as the bill of materials reads it."""

    channel: str  # the ring, under the key of records
    who: str
    why: str
    at: str
    adapters: tuple[ActOn, ...]
