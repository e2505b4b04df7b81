"""What ``run.json`` must contain for a run to be read: types of values, so that a damaged one gets a clear error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_json
from edge_tsfm.errors import TrainError

RUN_FILE = "run.json"
GROUPS_FILE = "groups.json"  # in a folder of runs by group


@dataclass(frozen=True, kw_only=True)
class BaseRecord:
    """Which base was adapted."""

    name: str
    source: str
    family: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """How the data were split; by time: where."""

    by: str
    edges: tuple[int, int, int] | None = None
    block_length: int | None = None
    timed: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a split by time that does not say where."""
        if self.by != "item" and (self.edges is None or self.block_length is None or self.timed is None):
            raise TrainError(f"split by {self.by[:80]}: want edges, block_length and timed")


@dataclass(frozen=True, kw_only=True)
class ReadRecord:
    """What the reader did."""

    interval: str


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """What was trained on."""

    fingerprint: str
    report: ReadRecord
    split: SplitRecord | None = None  # runs of the first releases were split by item


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """How training went."""

    best: float
    seconds: float
    base: float | None = None  # the frozen base's score; a network has none
    best_step: int = 0
    stopped_early: bool = False
    metric: str = ""


@dataclass(frozen=True, kw_only=True)
class GateRecord:
    """The verdict."""

    accepted: bool
    reason: str
    forced: bool = False


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """An adapter's run."""

    config: Mapping[str, Any]
    channel: str  # the signal, under the key of the file
    base: BaseRecord
    data: DataRecord
    windows: Mapping[str, int]
    tensors: tuple[str, ...]
    parameters: int
    training: TrainingRecord
    gate: GateRecord
    versions: Mapping[str, str]
    files: Mapping[str, str] | None = None  # name → SHA-256; older runs pin nothing


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """A run of a study: an adapter's, or a network's, which asks no gate."""

    config: Mapping[str, Any]
    parameters: int
    training: TrainingRecord
    gate: GateRecord | None = None
    files: Mapping[str, str] | None = None


def read_record(path: Path, kind: type[RunRecord | CellRecord] = RunRecord) -> dict[str, Any]:
    """Read a ``run.json`` of a ``kind``; what newer releases add passes. Raises `TrainError`."""
    record: dict[str, Any] = read_json(path, error=TrainError)
    bind(kind, record, str(path), error=TrainError, ignore_unknown=True)
    return record
