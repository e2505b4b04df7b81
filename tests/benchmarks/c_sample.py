"""The C sample's start and memory beside the Python runtime's and the torch pipeline's: whole processes in turn.

    python tests/benchmarks/c_sample.py CONFIG --binary etsa-forecast --work FOLDER [--library libonnxruntime.so ...]

CONFIG is a Chronos-Bolt's config.json; its weights are random. FOLDER keeps base, bundle and adapter for the next run.
Every round runs each once; medians are printed, with ratios to the torch pipeline and to importing chronos alone.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.adapter import Adapter, KnownAnswer
from device_runtime.format.blob import encode
from device_runtime.format.delta import Fourier, Numbers
from edge_tsfm.cli.bench import _random
from edge_tsfm.models import load_base
from edge_tsfm.research.bench import IMPORT_CHRONOS, RUNTIME_START, TORCH_START
from export import export_base

PARAMETERS = 2_400
PEAK = "\nimport re; print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"


def prepare(config: Path, work: Path) -> None:
    """Write ``torch``, ``bundle``, ``map.etsa`` (FourierFT on queries and values) and ``series.csv``, once."""
    if (work / "map.etsa").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    base = load_base(_random(config, work / "torch"))
    provenance = base.provenance
    export_base(base.model, family=base.family, name="random", out=work / "bundle", provenance=provenance)
    bundle, draw = Bundle.open(work / "bundle"), np.random.default_rng(0)
    sites = [i for i, entry in enumerate(bundle.manifest.tensors) if re.search(r"\.[qv]\.weight$", entry.name)]
    deltas = {}
    for index in sites:
        rows, columns = bundle.manifest.tensors[index].rows_columns
        numbers = Numbers.of(draw.normal(size=PARAMETERS // len(sites)))
        deltas[index] = Fourier(rows=rows, columns=columns, coefficients=numbers, scaling=300.0, seed=5)
    adapter = Adapter(base_digest=bundle.digest, version=1, deltas=deltas)
    context = (70 + 10 * np.sin(np.arange(48) / 3)).astype(np.float32)
    expected = Forecaster.open(bundle, encode(adapter), allow_unproven=True).forecast(context, 6).quantiles.reshape(-1)
    answer = KnownAnswer(context=context, expected=expected, tolerance=float(np.float32(0.01)))
    (work / "series.csv").write_text("".join(f"{80 + i % 5}\n" for i in range(512)), encoding="ascii")
    (work / "map.etsa").write_bytes(encode(replace(adapter, known_answer=answer)))


def processes(work: Path, binary: Path, libraries: list[Path]) -> dict[str, list[str]]:
    """Name → command."""
    bundle, blob = str(work / "bundle"), str(work / "map.etsa")
    found = {
        "torch pipeline": [sys.executable, "-c", TORCH_START + PEAK, str(work / "torch")],
        "import chronos": [sys.executable, "-c", IMPORT_CHRONOS + PEAK],
        "Python runtime": [sys.executable, "-c", RUNTIME_START + PEAK, bundle],
        "Python runtime, adapter": [sys.executable, "-c", RUNTIME_START + PEAK, bundle, blob],
    }
    for library in libraries:
        name = f"C, {library.name}"
        command = [str(binary), "--library", str(library), bundle, str(work / "series.csv")]
        found |= {
            name: command,
            f"{name}, adapter": [*command, "--adapter", blob],
            f"{name}, --trust-files": [*command, "--trust-files"],
        }
    return found


def measure(command: list[str]) -> tuple[float, float]:
    """Return milliseconds until the process ended, and its peak memory in MB."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = (time.perf_counter() - start) * 1e3
    printed = re.search(r"^peak memory: ([\d.]+) MB$", done.stderr, flags=re.MULTILINE)
    return took, float(printed[1]) if printed else int(done.stdout.split()[-1]) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--library", type=Path, action="append", help="[default: the installed wheel's]")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    capi = Path(onnxruntime.__file__).parent / "capi"
    prepare(options.config, options.work)
    if options.rounds < 1:
        return
    cases = processes(options.work, options.binary, options.library or sorted(capi.glob("libonnxruntime.so.1*")))
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, command in cases.items():
            figures[name].append(measure(command))
    middle = {
        name: [statistics.median(column) for column in zip(*taken, strict=True)] for name, taken in figures.items()
    }
    torch_ms, torch_mb = middle["torch pipeline"]
    import_ms, _ = middle["import chronos"]
    for name, (ms, mb) in middle.items():
        times = f"{ms:8.0f} ms  1/{torch_ms / ms:<5.1f} (import 1/{import_ms / ms:.1f})"
        sys.stdout.write(f"{name:<46}{times:<42}{mb:7.1f} MB  1/{torch_mb / mb:.1f}\n")


if __name__ == "__main__":
    main()
