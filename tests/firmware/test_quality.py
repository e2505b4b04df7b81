"""Field quality in C: the sums of the Python runtime, by the same rules, with the caller's memory and no malloc."""

from __future__ import annotations

import ctypes
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_runtime.quality.field import FieldQuality
from device_runtime.quality.pending import Made
from device_runtime.quality.rules import QualityRules
from device_runtime.quality.scores import PLACES, Sums, in_context_scale, score

from .conftest import SOURCE, need, run

LEVELS = tuple(round(0.1 * n, 1) for n in range(1, 10))
H, L, INTERVAL, LATE = 6, 16, 60_000, 2
HALF_LIFE_DAYS = 0.25
PROBE = r"""
#include "etsa_quality.h"
size_t series_size(void) { return sizeof(etq_series); }
static void put(const etq_sums *s, uint32_t levels, double *out)
{
    double head[8] = {s->windows, s->steps, s->missing, s->size, s->inside, s->ranged, s->scaled, s->scales};
    for (int i = 0; i < 8; i++) *out++ = head[i];
    for (uint32_t k = 0; k < levels; k++) *out++ = s->pinball[k];
}
void sums(const etq_series *q, int which, double *out)
{
    const etq_sums *all[4] = {&q->total, &q->recent, &q->own, &q->base};
    put(all[which], q->level_count, out);
}
void figures(const etq_series *q, double *out)
{
    out[0] = etq_wql(&q->total, q->level_count);
    out[1] = etq_mase(&q->total);
    out[2] = etq_coverage(&q->total);
    out[3] = etq_missing(&q->total);
}
uint64_t dropped(const etq_series *q) { return q->dropped; }
"""
FLOATS = np.ctypeslib.ndpointer(dtype=np.float32, flags="C")
DOUBLES = np.ctypeslib.ndpointer(dtype=np.float64, flags="C")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    need("cc")
    folder = tmp_path_factory.mktemp("quality")
    (folder / "probe.c").write_text(PROBE)
    quality = SOURCE / "quality"
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-shared", "-fPIC"]
    out = folder / "quality.so"
    done = run("cc", *flags, "-I", quality, folder / "probe.c", quality / "etsa_quality.c", "-o", out, "-lm")
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(out))
    library.series_size.restype = library.etq_memory.restype = ctypes.c_size_t
    library.etq_scale.restype = ctypes.c_double
    library.etq_scale.argtypes = [FLOATS, ctypes.c_size_t]
    library.dropped.restype = ctypes.c_uint64
    library.etq_init.restype = ctypes.c_bool
    library.etq_init.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, ctypes.c_uint32, DOUBLES,
        ctypes.c_uint32, ctypes.c_uint32, ctypes.c_double,
    ]  # fmt: skip
    library.etq_observe.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_float]
    library.etq_end_stay.argtypes = [ctypes.c_void_p]
    library.etq_remember.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, FLOATS, ctypes.c_void_p]
    library.sums.argtypes = [ctypes.c_void_p, ctypes.c_int, DOUBLES]
    library.figures.argtypes = [ctypes.c_void_p, DOUBLES]
    library.dropped.argtypes = [ctypes.c_void_p]
    return library


class Series:
    """One etq_series and its memory."""

    def __init__(self, core: ctypes.CDLL, *, steps: int = H, levels: tuple[float, ...] = LEVELS) -> None:
        self.core, self.levels = core, np.array(levels)
        self.at = ctypes.create_string_buffer(core.series_size())
        self.size = core.etq_memory(steps, len(levels), LATE)
        self.memory = (ctypes.c_double * (self.size // 8 + 2))()
        half_life = HALF_LIFE_DAYS * 86_400_000.0
        assert core.etq_init(
            self.at, self.memory, self.size, INTERVAL, steps, self.levels, len(levels), LATE, half_life
        )

    def sums(self, which: int) -> np.ndarray:
        out = np.zeros(PLACES + len(self.levels))
        self.core.sums(self.at, which, out)
        return out


def feed(seed: int, steps: int) -> Iterator[tuple[int, float]]:
    """Give a feed with gaps, repeats, late and wrong samples, clocks that jump and are set back."""
    draw = random.Random(seed)
    step, value, held = 1_000, 80.0, []
    for _ in range(steps):
        step += 1
        value += draw.gauss(0, 1)
        kind = draw.random()
        if kind < 0.1:
            continue
        if kind < 0.2:
            held.append((step * INTERVAL + draw.randrange(INTERVAL), value))
            continue
        yield step * INTERVAL + draw.randrange(INTERVAL), value
        if kind > 0.9:
            yield step * INTERVAL + draw.randrange(INTERVAL), value + 3
        if held and draw.random() < 0.4:
            yield held.pop(0)
        if kind > 0.99:
            yield step * INTERVAL, math.nan
        if draw.random() < 0.005:
            step += draw.choice([5, 40, 5_000, -90, -3_000])
            held.clear()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [LEVELS, (0.05, 0.35, 0.95), (0.5,), (0.2, 0.3)], ids=len)
def test_the_sums_are_those_of_the_python_runtime(core: ctypes.CDLL, seed: int, levels: tuple[float, ...]) -> None:
    rules = QualityRules(shadow_every=3, late_steps=LATE, half_life_days=HALF_LIFE_DAYS)
    field, c = FieldQuality(rules), Series(core, levels=levels)
    rng = np.random.default_rng(seed)
    newest = None
    for number, (t_ms, value) in enumerate(feed(seed, 1_500)):
        field.observe("HR", t_ms, value, interval_ms=INTERVAL)
        core.etq_observe(c.at, t_ms, value)
        if number % 400 == 399:
            field.end_stay("HR")
            core.etq_end_stay(c.at)
            continue
        now = field._series["HR", ""].newest
        if now is None or now == newest:
            continue
        newest = now
        context = (80 + rng.normal(0, 3, L)).astype(np.float32)
        context[rng.random(L) < 0.1] = np.nan
        keep, shadowed = field.wants("HR", H, len(levels))
        assert keep
        made = [np.sort(80 + rng.normal(0, 5, (H, len(levels))), axis=1).astype(np.float32) for _ in range(2)]
        shadows = {"base": Made(adapter=None, quantiles=made[1])} if shadowed else {}
        field.remember("HR", Made(adapter="a", quantiles=made[0]), levels, context, shadows)
        scale = core.etq_scale(context, L)
        assert scale == pytest.approx(in_context_scale(context[None])[0], rel=1e-12)
        core.etq_remember(c.at, now, scale, made[0], made[1].ctypes.data if shadowed else None)
    field.end_stay("HR")
    core.etq_end_stay(c.at)
    (scored,) = field._signals["HR"]
    assert scored.total.steps > 3_000
    beside = scored.against["base"]
    for which, sums in enumerate((scored.total, scored.recent, beside.own, beside.other)):
        np.testing.assert_allclose(c.sums(which), sums.values, rtol=1e-9, atol=1e-12)
    figures = np.zeros(4)
    core.figures(c.at, figures)
    total = scored.total
    np.testing.assert_allclose(figures, [total.wql, total.mase, total.coverage, total.missing], rtol=1e-9)


def test_a_worker_that_is_late_loses_no_score(core: ctypes.CDLL) -> None:
    c = Series(core)
    quantiles = np.full((H, 9), 80.0, dtype=np.float32)
    for step in range(60):
        core.etq_observe(c.at, step * INTERVAL, 81.0)
    for origin in range(60):
        core.etq_remember(c.at, origin, 1.0, quantiles, None)
    core.etq_end_stay(c.at)
    total = Sums(c.sums(0))
    assert total.steps == sum(min(H, 59 - origin) for origin in range(60))
    assert core.dropped(c.at) == 0


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"levels": 0}, {"levels": 65}, {"steps": 1 << 20}], ids=str)
def test_what_no_forecast_has_takes_no_memory(core: ctypes.CDLL, wrong: dict[str, int]) -> None:
    sizes = {"steps": H, "levels": 9} | wrong
    assert core.etq_memory(sizes["steps"], sizes["levels"], LATE) == 0


@pytest.mark.parametrize("levels", [(0.5, 0.5), (0.9, 0.1), (0.0, 0.5), (0.5, 1.0), (math.nan,)])
def test_levels_that_do_not_ascend_are_refused(core: ctypes.CDLL, levels: tuple[float, ...]) -> None:
    at = ctypes.create_string_buffer(core.series_size())
    memory = (ctypes.c_double * 4_096)()
    wanted = np.array(levels)
    assert not core.etq_init(at, memory, 32_768, INTERVAL, H, wanted, len(levels), LATE, 1e9)
    assert not core.etq_init(at, memory, 16, INTERVAL, H, np.array(LEVELS), 9, LATE, 1e9)


def test_the_service_scores_what_it_forecast(built: Path, library: Path) -> None:
    sample = SOURCE / "sample_data"
    values = {step: 75.0 + 9 * math.cos(step / 4) + step % 3 for step in range(60) if step % 11}
    lines = "".join(f"0 {step * 3_600_000} {value:.1f} 0\n" for step, value in values.items())
    key = (sample / "key.hex").read_text().strip()
    program = built / "service" / "etsa-service"
    options = ["--signal", "MAP", "--interval", "1h", "--key", key, "--library", library, "--quality", "1"]
    done = run(program, sample / "bundle", sample / "ward.etsa", *options, stdin=lines)
    assert done.returncode == 0, done.stderr
    said = next(line for line in done.stderr.splitlines() if '"steps"' in line)
    found = json.loads(said.partition("etsa-service: ")[2])
    made = [json.loads(line) for line in done.stdout.splitlines()]
    newest = max(values)
    levels = np.array([float(level) for level in made[-1]["quantiles"]])
    total = np.zeros(PLACES + len(levels))
    for one in made:
        quantiles = np.array(list(one["quantiles"].values()), dtype=np.float32).T  # [H, Q]
        origin = one["t_ms"] // 3_600_000 - 1
        if origin + len(quantiles) <= newest - 1 - LATE:
            steps = range(origin + 1, origin + len(quantiles) + 1)
            target = np.array([values.get(step, math.nan) for step in steps]).round(1).astype(np.float32)
            total += score(quantiles, target, levels, 0.0)
    sums = Sums(total)
    assert found["steps"] == sums.steps > 200
    assert found["wql"] == pytest.approx(sums.wql, rel=1e-6)
    assert found["missing"] == pytest.approx(sums.missing, rel=1e-6)
    assert found["beside_base"]["steps"] == sums.steps
    assert found["beside_base"]["wql"] == pytest.approx(sums.wql, rel=1e-6)
    assert found["beside_base"]["base_wql"] > 0
    without = run(program, sample / "bundle", sample / "ward.etsa", *options[:-2], stdin=lines)
    assert '"steps"' not in without.stderr
    assert [line.split('"latency_ms"')[0] for line in without.stdout.splitlines()] == [
        line.split('"latency_ms"')[0] for line in done.stdout.splitlines()
    ]
