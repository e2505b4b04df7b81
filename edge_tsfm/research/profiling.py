"""Where a forecast's time goes: ONNX Runtime's own profile, summed by operator."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort

from device_runtime.files import write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.families.model import Sampler
from device_runtime.forecast.session import Session, SessionSettings, session_options

RUNS = 20
SAMPLED_RUNS = 3  # of a forecast that is 64 runs of a graph itself


def profile_forecast(bundle: Bundle, out: Path, *, threads: int) -> dict[str, float]:
    """Profile forecasts of one 512-step context; return operator → share of all operators' time, largest first.

    The trace goes to ``out``. Of several graphs operators are named ``step: MatMul``, and each trace goes to
    a file of its own, ``trace-step.json`` for ``trace.json``.
    """
    settings = SessionSettings(threads=threads, spinning=True)
    context = np.random.default_rng(0).normal(80, 10, (1, min(512, bundle.manifest.context_length))).astype(np.float32)
    sessions = {name: _profiled(bundle, name, out, settings) for name in bundle.manifest.graphs}
    model = FAMILIES[bundle.manifest.family](bundle, {}, settings)
    model.sessions = sessions
    for _ in range(SAMPLED_RUNS if isinstance(model, Sampler) else RUNS):
        model.predict(context, bundle.manifest.prediction_length)
    spent: Counter[str] = Counter()
    several = len(sessions) > 1
    for name, session in sessions.items():
        target = out.with_name(f"{out.stem}-{name}{out.suffix}") if several else out
        for operator, taken in _spent(session, target).items():
            spent[f"{name}: {operator}" if several else operator] += taken
    total = sum(spent.values())
    return {name: taken / total for name, taken in spent.most_common()}


def _profiled(bundle: Bundle, graph: str, out: Path, settings: SessionSettings) -> Session:
    """Open a graph so that it notes the time of every operator, beside ``out``."""
    options = session_options(settings)
    options.enable_profiling = True
    options.profile_file_prefix = str(out.with_name(f"{out.stem}-{graph}"))
    return ort.InferenceSession(str(bundle.path / bundle.manifest.graphs[graph].file), options)


def _spent(session: Session, target: Path) -> Counter[str]:
    """End a profile, move its trace to ``target``, and return the microseconds of each operator."""
    trace = Path(session.end_profiling())
    write_atomic(target, trace.read_bytes())
    if trace != target:
        trace.unlink()
    spent: Counter[str] = Counter()
    for event in json.loads(target.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return spent
