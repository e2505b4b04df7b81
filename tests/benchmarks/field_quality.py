"""What field quality costs at one sample a second: ``python -m tests.benchmarks.field_quality`` (docs/reference).

Processor time of `observe`, `wants` and `remember` for each sample, without the forecasts; memory of what waits and its
C counterpart; the file, and what a day of writes comes to.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from device_runtime.quality.field import FieldQuality
from device_runtime.quality.pending import Made
from device_runtime.quality.rules import QualityRules
from device_runtime.update.sealed import seal

LEVELS = tuple(round(0.1 * n, 1) for n in range(1, 10))
QUALITY = Path(__file__).resolve().parents[2] / "firmware_examples" / "quality"
PROGRAM = r"""
#define _POSIX_C_SOURCE 200809L
#include "etsa_quality.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int main(int argc, char **argv)
{
    uint32_t steps = (uint32_t)atoi(argv[argc - 1]);
    double levels[9];
    for (int k = 0; k < 9; k++) levels[k] = (k + 1) / 10.0;
    size_t size = etq_memory(steps, 9, 2, 2);
    void *memory = malloc(size);
    float *quantiles = malloc(steps * 9 * sizeof *quantiles), context[48];
    etq_series *q = malloc(sizeof *q);
    etq_signal *signal = malloc(sizeof *signal);
    etq_rules rules = {.late_steps = 2, .half_life_ms = 6e8, .min_reported = 100, .judged = true, .allowed = 1.02};
    etq_signal_begin(signal, "HR");
    if (!etq_init(q, memory, size, signal, &rules, 1000, steps, levels, 9, 2)) return 1;
    for (uint32_t i = 0; i < steps * 9; i++) quantiles[i] = 75.0f + (float)(i % 9);
    for (int i = 0; i < 48; i++) context[i] = 80.0f + (float)(i % 3);
    clock_t start = clock();
    const int count = 86400;
    for (int t = 0; t < count; t++) {
        etq_observe(q, (int64_t)t * 1000, 80.0f + (float)(t % 5));
        etq_made runs = {.by = {.is_adapter = true}, .quantiles = quantiles};
        etq_made others[2] = {{.quantiles = t % 4 == 0 ? quantiles : NULL}, {.quantiles = NULL}};
        etq_remember(q, t, etq_scale(context, 48), &runs, others);
    }
    double us = (double)(clock() - start) / CLOCKS_PER_SEC / count * 1e6;
    printf("%.6g %zu %zu\n", us, size + sizeof *q, sizeof *signal);
    return 0;
}
"""


def in_python(steps: int, samples: int) -> tuple[float, int, int]:
    """Return microseconds a sample, bytes that wait, and bytes of the file."""
    field = FieldQuality(QualityRules(), ratio=1.02)
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(80, 4, (steps, 9)).astype(np.float32), 1)
    context = rng.normal(80, 3, 48).astype(np.float32)
    own, base = Made(adapter="a" * 64, quantiles=quantiles), Made(adapter=None, quantiles=quantiles + 1)
    began = time.process_time()
    for second in range(samples):
        field.observe("HR", second * 1_000, 80.0 + second % 5, interval_ms=1_000)
        keep, shadowed = field.wants("HR", steps, 9)
        if keep:
            field.remember("HR", own, LEVELS, context, {"base": base} if shadowed else {})
    took = (time.process_time() - began) / samples * 1e6
    return took, field.size, len(seal({**field.to_value(), "published": field.published()}))


def main() -> None:
    """Print the table."""
    python = "Python: µs a sample | bytes that wait | bytes of the file | written a day"
    print(f"| Steps ahead | {python} | C: µs | bytes of a feed | of a signal |")  # noqa: T201
    print("|---|---|---|---|---|---|---|---|")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "cost.c", Path(folder) / "cost"
        source.write_text(PROGRAM)
        parts = [QUALITY / "etsa_quality.c", QUALITY / "etsa_evidence.c"]
        command = ["cc", "-std=c99", "-O2", "-DETQ_MAX_LEVELS=9u", "-I", QUALITY, source, *parts, "-o", program, "-lm"]
        subprocess.run(command, check=True)
        for steps in (6, 64):
            took, waits, file = in_python(steps, 5_000)
            writes = 86_400 / QualityRules().save_seconds
            in_c, memory, held = subprocess.run(
                [program, str(steps)], check=True, capture_output=True, text=True
            ).stdout.split()
            print(  # noqa: T201
                f"| {steps} | {took:.0f} | {waits:,} | {file:,} | {writes * file / 1e6:.1f} MB in {writes:.0f} writes "
                f"| {float(in_c):.2f} | {int(memory):,} | {int(held):,} |"
            )


if __name__ == "__main__":
    main()
