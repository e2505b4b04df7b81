"""Tracking in C gives the Python runtime's bits, on every processor there is a compiler and an emulator for."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from device_runtime.adapt.tracking import Tracking

from .conftest import SOURCE, need, run
from .test_processors import PROCESSORS

LEVELS = tuple(j / 10 for j in range(1, 10))
PROGRAM = r"""
#include "etsa_tracking.h"
#include <stdio.h>
#include <stdlib.h>
static void get(void *to, size_t size)
{
    if (fread(to, 1, size, stdin) != size) exit(2);
}
/* In: levels, steps, three rules, forecasts; each: steps, reset, quantiles, targets. Out: what was issued, state. */
int main(void)
{
    static etst_tracking t;
    static double offsets[ETST_MAX_NUMBERS];
    static float quantiles[ETST_MAX_NUMBERS], target[ETST_MAX_NUMBERS];
    double levels[ETST_MAX_LEVELS], rules[3];
    uint32_t head[3], one[2];
    get(head, sizeof head);
    get(levels, head[0] * sizeof *levels);
    get(rules, sizeof rules);
    size_t size = etst_memory(head[1], head[0]);
    if (!etst_init(&t, offsets, size, levels, head[0], head[1], rules[0], rules[1], rules[2])) return 1;
    for (uint32_t n = 0; n < head[2]; n++) {
        get(one, sizeof one);
        if (one[1]) etst_reset(&t);
        get(quantiles, one[0] * head[0] * sizeof *quantiles);
        get(target, one[0] * sizeof *target);
        if (!etst_apply(&t, quantiles, one[0])) return 3;
        fwrite(quantiles, sizeof *quantiles, one[0] * head[0], stdout);
        if (!etst_learn(&t, quantiles, target, one[0])) return 4;
        fwrite(&t.factor, sizeof t.factor, 1, stdout);
    }
    fwrite(offsets, sizeof *offsets, head[1] * head[0], stdout);
    fwrite(&t.updates, sizeof t.updates, 1, stdout);
    return etst_is_whole(&t) ? 0 : 5;
}
"""


@dataclass(frozen=True)
class Case:
    """Rules, and a person's forecasts."""

    levels: tuple[float, ...] = LEVELS
    steps: int = 6
    offset_rate: float = 0.01
    width_rate: float = 0.1
    cap: float = 0.5
    seed: int = 0
    count: int = 300
    scale: float = 10.0
    centre: float = 80.0


CASES = {
    "plain": Case(),
    "fast": Case(offset_rate=0.9, width_rate=0.9, cap=0.25, seed=1),
    "offsets alone": Case(width_rate=0.0, seed=2),
    "width alone": Case(offset_rate=0.0, width_rate=0.03, seed=3),
    "long": Case(steps=64, seed=4, count=60),
    "odd levels": Case(levels=(0.05, 0.3333333333333333, 0.5, 0.61, 0.9999), steps=3, seed=5),
    "three levels, one step": Case(levels=(0.1, 0.5, 0.9), steps=1, seed=6),
    "tiny": Case(scale=1e-38, centre=0.0, seed=7),  # subnormal floats
    "huge": Case(scale=3e38, centre=0.0, cap=0.9, offset_rate=0.9, seed=8),  # beyond all floats: infinite
}


def inputs(case: Case) -> tuple[bytes, bytes]:
    """Return what the program reads, and what it must write: the Python runtime's own numbers."""
    rng = np.random.default_rng(case.seed)
    rules = {"offset_rate": case.offset_rate, "width_rate": case.width_rate, "cap": case.cap}
    tracking = Tracking(case.levels, case.steps, **rules)
    sent = [struct.pack("<3I", len(case.levels), case.steps, case.count), np.array(case.levels).tobytes()]
    sent.append(struct.pack("<3d", *rules.values()))
    wanted = []
    for number in range(case.count):
        steps = int(rng.integers(1, case.steps + 1))
        reset = number % 90 == 89
        if reset:
            tracking.reset()
        with np.errstate(over="ignore"):
            quantiles = rng.normal(case.centre, case.scale / 3, (steps, len(case.levels)))
            quantiles = np.sort(np.clip(quantiles, -3e38, 3e38).astype(np.float32), 1)
            target = np.clip(rng.normal(case.centre, case.scale / 2, steps), -3e38, 3e38).astype(np.float32)
        quantiles[rng.random(steps) < 0.1] = case.centre  # no width: says nothing
        target[rng.random(steps) < 0.2] = np.nan
        target[rng.random(steps) < 0.02] = np.inf
        hit = rng.random(steps) < 0.1
        target[hit] = quantiles[hit, 0]  # on the edge of the band
        sent += [struct.pack("<2I", steps, reset), quantiles.tobytes(), target.tobytes()]
        with np.errstate(invalid="ignore"):
            issued = tracking.apply(quantiles)
            tracking.learn(issued, target)
        wanted += [issued.tobytes(), struct.pack("<d", tracking.factor)]
    wanted += [tracking.offsets.tobytes(), struct.pack("<Q", tracking.updates)]
    assert 0.5 * case.count / 2 < tracking.updates + 3 * 90
    return b"".join(sent), b"".join(wanted)


def build(folder: Path, compiler: str, *flags: str) -> Path:
    need(compiler)
    source, binary = folder / "tracking.c", folder / "tracking"
    source.write_text(PROGRAM)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror"]
    sources = [source, SOURCE / "etsa" / "etsa_tracking.c"]
    done = run(compiler, *strict, *flags, "-I", SOURCE / "etsa", *sources, "-o", binary)
    assert done.returncode == 0, done.stderr
    return binary


def same(binary: Path, emulator: str | None = None) -> None:
    for name, case in CASES.items():
        sent, wanted = inputs(case)
        command = [*([emulator] if emulator else []), str(binary)]
        done = subprocess.run(command, input=sent, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, (name, done.returncode, done.stderr[-2_000:])
        assert done.stdout == wanted, name


@pytest.mark.parametrize("flags", [("-Os",), ("-O3", "-march=native", "-ffp-contract=fast")], ids=["small", "fused"])
def test_the_bits_are_those_of_the_python_runtime(tmp_path: Path, flags: tuple[str, ...]) -> None:
    same(build(tmp_path, "cc", *flags))


def test_nothing_is_undefined_and_nothing_out_of_bounds(tmp_path: Path) -> None:
    same(build(tmp_path, "cc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("-Os",), ("-O3", "-ffp-contract=fast")], ids=["small", "fused"])
@pytest.mark.parametrize("processor", [name for name, (_, emulator) in PROCESSORS.items() if emulator])
def test_the_bits_are_the_same_on_every_processor(processor: str, tmp_path: Path, flags: tuple[str, ...]) -> None:
    compiler, emulator = PROCESSORS[processor]
    assert emulator is not None
    need(compiler, emulator)
    same(build(tmp_path, compiler, "-static", *flags), emulator)


REFUSED = r"""
#include "etsa_tracking.h"
#include <math.h>
#define REFUSES(levels_, count, steps, a, b, cap) \
    { \
        const double levels[] = levels_; \
        if (etst_init(&t, offsets, sizeof offsets, levels, count, steps, a, b, cap)) return __LINE__; \
    }
#define L(...) {__VA_ARGS__}
int main(void)
{
    static etst_tracking t;
    static double offsets[64];
    float q[9] = {0}, y[3] = {0};
    const double good[] = {0.1, 0.5, 0.9};
    REFUSES(L(0.1, 0.9), 2, 6, 0.1, 0.1, 0.5)
    REFUSES(L(0.5, 0.1, 0.9), 3, 6, 0.1, 0.1, 0.5)
    REFUSES(L(0.5, 0.7, 0.9), 3, 6, 0.1, 0.1, 0.5)
    REFUSES(L(0.1, 0.2, 0.5), 3, 6, 0.1, 0.1, 0.5)
    REFUSES(L(0.0, 0.5, 0.9), 3, 6, 0.1, 0.1, 0.5)
    REFUSES(L(0.1, 0.5, 1.0), 3, 6, 0.1, 0.1, 0.5)
    REFUSES(L(0.1, 0.5, NAN), 3, 6, 0.1, 0.1, 0.5)
    REFUSES(L(0.1, 0.5, 0.9), 3, 0, 0.1, 0.1, 0.5)
    REFUSES(L(0.1, 0.5, 0.9), 3, 5000, 0.1, 0.1, 0.5)
    REFUSES(L(0.1, 0.5, 0.9), 3, 60, 0.1, 0.1, 0.5) /* too little memory */
    REFUSES(L(0.1, 0.5, 0.9), 3, 6, 1.5, 0.1, 0.5)
    REFUSES(L(0.1, 0.5, 0.9), 3, 6, NAN, 0.1, 0.5)
    REFUSES(L(0.1, 0.5, 0.9), 3, 6, 0.1, -0.1, 0.5)
    REFUSES(L(0.1, 0.5, 0.9), 3, 6, 0.1, 0.1, 1.0)
    REFUSES(L(0.1, 0.5, 0.9), 3, 6, 0.1, 0.1, 0.0)
    if (!etst_init(&t, offsets, sizeof offsets, good, 3, 2, 0.1, 0.1, 0.5)) return __LINE__;
    if (etst_apply(&t, q, 3) || etst_apply(&t, q, 0)) return __LINE__;
    if (etst_learn(&t, q, y, 3) || etst_learn(&t, q, y, 0)) return __LINE__;
    if (!etst_is_whole(&t)) return __LINE__;
    offsets[1] = 0.6;
    if (etst_is_whole(&t)) return __LINE__;
    offsets[1] = NAN;
    if (etst_is_whole(&t)) return __LINE__;
    offsets[1] = 0;
    t.factor = 1.6;
    if (etst_is_whole(&t)) return __LINE__;
    return 0;
}
"""


def test_rules_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    need("cc")
    source, binary = tmp_path / "refused.c", tmp_path / "refused"
    source.write_text(REFUSED)
    done = run(
        "cc", "-std=c99", "-g", "-fsanitize=address,undefined", "-I", SOURCE / "etsa", source,
        SOURCE / "etsa" / "etsa_tracking.c", "-o", binary, "-lm",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run(binary)
    assert done.returncode == 0, f"line {done.returncode}: {done.stderr}"
