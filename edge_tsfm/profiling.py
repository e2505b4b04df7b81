"""Where a forecast's time goes: ONNX Runtime's own profile, summed by operator."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort

from device_runtime.bundle import Bundle
from device_runtime.files import write_atomic
from device_runtime.session import SessionSettings, session_options

RUNS = 20


def profile_forecast(bundle: Bundle, out: Path, *, threads: int) -> dict[str, float]:
    """Profile forecasts of one 512-step context, write the trace to ``out``; return operator → share, largest first."""
    options = session_options(SessionSettings(threads=threads, spinning=True))
    options.enable_profiling = True
    options.profile_file_prefix = str(out.with_suffix(""))
    session = ort.InferenceSession(str(bundle.path / bundle.manifest.graphs["forecast"].file), options)
    context = np.random.default_rng(0).normal(80, 10, (1, min(512, bundle.manifest.context_length))).astype(np.float32)
    for _ in range(RUNS):
        session.run(None, {"context": context})
    trace = Path(session.end_profiling())
    events = json.loads(trace.read_text())
    write_atomic(out, trace.read_bytes())
    if trace != out:
        trace.unlink()
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    total = sum(spent.values())
    return {name: taken / total for name, taken in spent.most_common()}
