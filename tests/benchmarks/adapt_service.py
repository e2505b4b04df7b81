"""What learning takes in the C service: ``python -m tests.benchmarks.adapt_service SERVICE LIBRARY BUNDLE``.

SERVICE is a built etsa-service, BUNDLE has a state graph (`export learning --learnable output-biases`). The same stays
are fed to it without and with ``--adapt``: peak memory of both, the time that learning took for each stay and its
share of a minute's budget, and the forecasts' median latency of both, alternated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.simulators.service_bed import ServiceBed, stays_of

STAYS = 16


def peak(process: subprocess.Popen[str]) -> float:
    """Peak resident memory in MB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


def measured(folder: Path, given: argparse.Namespace, mode: str) -> tuple[float, float, float]:
    """Return peak memory in MB, the median latency and the processor's time of a stay, both in ms."""
    bed = ServiceBed(folder, given.service, given.library, mode=mode, bundle=given.bundle)
    bed.start()
    assert bed.process is not None
    stat = Path(f"/proc/{bed.process.pid}/stat")

    def ticks() -> float:
        fields = stat.read_text().rpartition(")")[2].split()
        return 10.0 * (int(fields[11]) + int(fields[12]))

    before = ticks()
    for values in stays_of(STAYS):
        bed.stay(values)
    if mode != "off":
        bed.wait(lambda said: said["own"] or said["learnt"]["stays"] >= STAYS)
    else:
        time.sleep(1.5)
    took = (ticks() - before) / STAYS
    memory = peak(bed.process)
    latency = median(one["latency_ms"] for one in bed.made if one["code"] == 0)
    bed.end()
    return memory, latency, took


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("service", "library", "bundle"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {"off": [], "shadow": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds):
            for mode, held in found.items():
                held.append(measured(Path(folder) / f"{mode}-{number}", given, mode))
    print("| learning | peak memory | median forecast | processor time of a stay of 60 steps |")  # noqa: T201
    print("|---|--:|--:|--:|")  # noqa: T201
    for mode, held in found.items():
        memory, latency, took = (median(column) for column in zip(*held, strict=True))
        print(f"| {mode} | {memory:.1f} MB | {latency:.2f} ms | {took:.0f} ms |")  # noqa: T201
    name = json.loads((given.bundle / "bundle.json").read_bytes())["name"]
    print(f"{name}, {given.rounds} rounds, alternated")  # noqa: T201


if __name__ == "__main__":
    main()
