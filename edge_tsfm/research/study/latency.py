"""How fast a base forecasts on the device runtime, beside the torch pipeline: once for each base, not for each method.

An adapter is merged before forecasting, so it costs nothing afterwards. Both take turns in one process on this machine
(`edge_tsfm.research.bench`): the ratio carries over to other machines better than the milliseconds do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.errors import DeviceRuntimeError
from device_runtime.files import write_atomic
from device_runtime.forecast.session import SessionSettings
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.models import load_base
from edge_tsfm.research.bench import Case, check_timed, forecast_timing
from edge_tsfm.research.study.blobs import base_bundle
from export.errors import ExportError

LATENCY_FOLDER = "latency"
RUNS = 100
THREADS = 2  # as `edge-tsfm bench`, where there are as many cores


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Median milliseconds of one forecast of one series."""

    context_length: int
    prediction_length: int
    threads: int
    runtime_ms: float
    torch_ms: float

    def __post_init__(self) -> None:
        """Refuse what no clock measures."""
        if min(self.runtime_ms, self.torch_ms) <= 0 or min(self.context_length, self.prediction_length) < 1:
            raise DataError(f"want times above 0 and lengths of at least 1, got {self}")

    @property
    def ratio(self) -> float:
        """Torch over runtime."""
        return self.torch_ms / self.runtime_ms

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**asdict(self), "ratio": self.ratio}

    def say(self) -> str:
        """Describe what was measured, and on what terms."""
        return (
            f"On the device runtime a forecast of one series, {self.context_length} → {self.prediction_length}, takes "
            f"{self.runtime_ms:.2f} ms, on the torch pipeline {self.torch_ms:.2f} ms ({self.ratio:.1f}×): medians of "
            f"alternating blocks, {self.threads} threads each, on the machine of this study. It is the same for every "
            "method, since an adapter is merged before it forecasts."
        )


def measure_latencies(
    bases: Sequence[str], out: Path, *, context_length: int, prediction_length: int, only_read: bool = False
) -> tuple[dict[str, Latency], list[str]]:
    """Time each base that has no timing of these lengths in ``out`` yet; return base → timing, and notes.

    ``only_read`` times nothing. A base that cannot be timed or exported is a note: the figures do not depend on it.
    """
    found: dict[str, Latency] = {}
    notes: list[str] = []
    for source in bases:
        path = out / LATENCY_FOLDER / f"{Path(source).name}-{context_length}-{prediction_length}.json"
        if not path.exists() and not only_read:
            try:
                timed = _measure(source, out, context_length, prediction_length)
            except (ConfigError, ExportError, DeviceRuntimeError) as error:
                notes.append(f"no latency of {source}: {error}")
                continue
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, (json.dumps(asdict(timed), indent=2) + "\n").encode())
        if path.exists():
            found[source] = bind(Latency, read_json(path, error=DataError), str(path), error=DataError)
    return found, notes


def _measure(source: str, out: Path, context_length: int, prediction_length: int) -> Latency:
    base = load_base(source)
    check_timed(base.family)
    threads = min(THREADS, len(os.sched_getaffinity(0)))
    before = torch.get_num_threads()
    try:
        timing = forecast_timing(
            base,
            base_bundle(source, out),
            Case(context_length=context_length, prediction_length=prediction_length),
            SessionSettings(threads=threads),
            RUNS,
        )
    finally:
        torch.set_num_threads(before)
    return Latency(
        context_length=context_length,
        prediction_length=prediction_length,
        threads=threads,
        runtime_ms=timing.runtime_ms,
        torch_ms=timing.torch_ms,
    )
