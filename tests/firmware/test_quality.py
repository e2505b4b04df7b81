"""Field quality in C: the sums of the Python runtime, by the same rules, with the caller's memory and no malloc."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import random
import signal
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from device_runtime.forecast.bundle import Bundle
from device_runtime.format.blob import decode, encode
from device_runtime.quality.evidence import Drift, Trial, Verdict, difference
from device_runtime.quality.field import FieldQuality
from device_runtime.quality.pending import Made
from device_runtime.quality.rules import QualityRules
from device_runtime.quality.scored import Scored
from device_runtime.quality.scores import PLACES, Sums, in_context_scale, score
from device_runtime.update.disk import PosixDisk
from device_runtime.update.field_store import load, published

from .conftest import SOURCE, need, run
from .service import Service
from .test_processors import PROCESSORS

LEVELS = tuple(round(0.1 * n, 1) for n in range(1, 10))
H, L, INTERVAL, LATE = 6, 16, 60_000, 2
HALF_LIFE_DAYS = 0.25
PROBE = r"""
#include "etsa_quality.h"
#include <string.h>
size_t series_size(void) { return sizeof(etq_series); }
size_t signal_size(void) { return sizeof(etq_signal); }
bool begin(etq_series *q, etq_signal *signal, void *memory, size_t size, int64_t interval, uint32_t steps,
           const double *levels, uint32_t count, uint32_t late, double half_life, bool stay, double allowed)
{
    etq_rules rules = {.late_steps = late, .half_life_ms = half_life, .whole_stay = stay, .min_reported = 20,
                       .judged = allowed > 0, .allowed = allowed};
    etq_signal_begin(signal, "HR");
    return etq_init(q, memory, size, signal, &rules, interval, steps, levels, count, 3);
}
static etq_id id_of(int number)
{
    etq_id id = {.is_adapter = number > 0};
    memset(id.sha256, number, sizeof id.sha256);
    return id;
}
void remember(etq_series *q, int64_t origin, double scale, int by, const float *made, const float *base, int previous,
              const float *previous_made)
{
    etq_made runs = {.by = id_of(by), .quantiles = made};
    etq_made others[2] = {{.by = id_of(0), .quantiles = base}, {.by = id_of(previous), .quantiles = previous_made}};
    etq_remember(q, origin, scale, &runs, others);
}
static double *put(const etq_sums *s, uint32_t levels, double *out)
{
    double head[8] = {s->windows, s->steps, s->missing, s->size, s->inside, s->ranged, s->scaled, s->scales};
    for (int i = 0; i < 8; i++) *out++ = head[i];
    for (uint32_t k = 0; k < levels; k++) *out++ = s->pinball[k];
    return out;
}
/* Everything that is held of a forecaster: -1 behind the last. */
int state(const etq_signal *signal, int place, double *out)
{
    if (place >= (int)signal->count) return -1;
    const etq_scored *one = &signal->held[place];
    double *at = out;
    *at++ = one->by.sha256[0];
    *at++ = (double)one->since;
    *at++ = (double)one->until;
    at = put(&one->total, one->level_count, at);
    at = put(&one->recent, one->level_count, at);
    for (uint32_t i = 0; i < one->day_count; i++) {
        *at++ = (double)one->days[i].day;
        at = put(&one->days[i].sums, one->level_count, at);
    }
    for (int which = 0; which < 2; which++) {
        const etq_against *a = &one->against[which];
        if (!a->begun) continue;
        *at++ = a->by.sha256[0];
        at = put(&a->own, one->level_count, at);
        at = put(&a->other, one->level_count, at);
        for (int i = 0; i < 6; i++) *at++ = a->moments[i];
        *at++ = (double)a->drift.units;
        *at++ = (double)a->drift_since;
        for (int i = 0; i < 5; i++) *at++ = a->drift.logs[i];
        if (a->judged) {
            *at++ = a->trial.allowed;
            *at++ = a->trial.verdict;
            *at++ = etq_judge(a, one->level_count, 1);
            for (int i = 0; i < 5; i++) *at++ = a->trial.worse[i];
            for (int i = 0; i < 5; i++) *at++ = a->trial.better[i];
        }
        if (a->said) {
            at = put(&a->said_own, one->level_count, at);
            at = put(&a->said_other, one->level_count, at);
            for (int i = 0; i < 6; i++) *at++ = a->said_moments[i];
            *at++ = a->said_drift;
        }
    }
    if (one->said) at = put(&one->said_total, one->level_count, at);
    return (int)(at - out);
}
void figures(const etq_signal *signal, double *out)
{
    const etq_scored *one = &signal->held[signal->count - 1];
    out[0] = etq_wql(&one->total, one->level_count);
    out[1] = etq_mase(&one->total);
    out[2] = etq_coverage(&one->total);
    out[3] = etq_missing(&one->total);
    out[4] = etq_percent(&one->against[0], one->level_count);
}
uint64_t dropped(const etq_series *q) { return q->dropped; }
void trial(double allowed, const double *own, const double *other, int count, double *out)
{
    etq_trial t;
    etq_drift d;
    etq_trial_begin(&t, allowed);
    etq_drift_begin(&d);
    for (int n = 0; n < count; n++) {
        etq_trial_add(&t, own[n], other[n]);
        etq_drift_add(&d, own[n], other[n]);
        for (int i = 0; i < 5; i++) {
            *out++ = t.worse[i];
            *out++ = t.better[i];
            *out++ = d.logs[i];
        }
        *out++ = etq_log_mean(t.worse);
        *out++ = t.verdict;
        *out++ = etq_drift_flagged(&d);
    }
}
"""
FLOATS = np.ctypeslib.ndpointer(dtype=np.float32, flags="C")
DOUBLES = np.ctypeslib.ndpointer(dtype=np.float64, flags="C")
ALLOWED = 1.05
VERDICTS = {Verdict.OPEN: 0.0, Verdict.BETTER: 1.0, Verdict.WORSE: 2.0}
FIELD_C = ("etsa_quality.c", "etsa_evidence.c")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    need("cc")
    folder = tmp_path_factory.mktemp("quality")
    (folder / "probe.c").write_text(PROBE)
    quality = SOURCE / "quality"
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-shared", "-fPIC"]
    out = folder / "quality.so"
    sources = [folder / "probe.c", *(quality / name for name in FIELD_C)]
    done = run("cc", *flags, "-I", quality, *sources, "-o", out, "-lm")
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(out))
    at, size, number, real = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_double
    for name in ("series_size", "signal_size", "etq_memory"):
        getattr(library, name).restype = size
    library.etq_scale.restype = real
    library.etq_scale.argtypes = [FLOATS, size]
    library.dropped.restype = ctypes.c_uint64
    library.dropped.argtypes = [at]
    library.begin.restype = ctypes.c_bool
    library.begin.argtypes = [
        at, at, at, size, ctypes.c_int64, number, DOUBLES, number, number, real, ctypes.c_bool, real,
    ]  # fmt: skip
    library.etq_observe.argtypes = [at, ctypes.c_int64, ctypes.c_float]
    library.etq_end_stay.argtypes = [at]
    library.remember.argtypes = [at, ctypes.c_int64, real, ctypes.c_int, FLOATS, at, ctypes.c_int, at]
    library.state.argtypes = [at, ctypes.c_int, DOUBLES]
    library.figures.argtypes = [at, DOUBLES]
    library.trial.argtypes = [real, DOUBLES, DOUBLES, ctypes.c_int, DOUBLES]
    return library


class Series:
    """One etq_series, its signal and its memory."""

    def __init__(
        self, core: ctypes.CDLL, *, levels: tuple[float, ...] = LEVELS, stay: bool = False, allowed: float = ALLOWED
    ) -> None:
        self.core, self.levels = core, np.array(levels)
        self.at = ctypes.create_string_buffer(core.series_size())
        self.signal = ctypes.create_string_buffer(core.signal_size())
        self.size = core.etq_memory(H, len(levels), LATE, 3)
        self.memory = (ctypes.c_double * (self.size // 8 + 2))()
        half_life = HALF_LIFE_DAYS * 86_400_000.0
        assert core.begin(
            self.at, self.signal, self.memory, self.size, INTERVAL, H, self.levels, len(levels), LATE, half_life,
            stay, allowed,
        )  # fmt: skip

    def state(self, place: int) -> np.ndarray:
        """Everything that is held of the forecaster at a place."""
        out = np.zeros(100 * (PLACES + len(self.levels)))
        return out[: self.core.state(self.signal, place, out)]

    def total(self) -> np.ndarray:
        return self.state(0)[3 : 3 + PLACES + len(self.levels)]


def number_of(adapter: str | None) -> float:
    return 0.0 if adapter is None else float(adapter)


def state_of(scored: Scored) -> np.ndarray:
    """The same of the Python runtime, in the probe's order."""
    out = [number_of(scored.adapter), scored.since, scored.until, *scored.total.values, *scored.recent.values]
    for day, sums in sorted(scored.days.items()):
        out += [day, *sums.values]
    for name in ("base", "previous"):
        if name not in scored.against:
            continue
        one = scored.against[name]
        out += [number_of(one.adapter), *one.own.values, *one.other.values, *one.moments]
        out += [one.drift.units, one.drift_since, *one.drift.logs]
        if one.trial:
            out += [one.trial.ratio, VERDICTS[one.trial.verdict], VERDICTS[one.verdict]]
            out += [*one.trial.worse.logs, *one.trial.better.logs]
        if name in scored.said:
            said = scored.said[name]
            out += [*said["own"], *said["other"], *said["units"], said["drift"]]
    return np.array([*out, *scored.said.get("total", [])], dtype=np.float64)


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


@pytest.mark.parametrize("unit", ["block", "stay"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("levels", [LEVELS, (0.05, 0.35, 0.95), (0.5,), (0.2, 0.3)], ids=len)
def test_sums_evidence_and_flags_are_those_of_the_python_runtime(
    core: ctypes.CDLL, seed: int, levels: tuple[float, ...], unit: Literal["block", "stay"]
) -> None:
    rules = QualityRules(shadow_every=3, late_steps=LATE, half_life_days=HALF_LIFE_DAYS, unit=unit, min_reported=20)
    field, c = FieldQuality(rules, ratio=ALLOWED), Series(core, levels=levels, stay=unit == "stay")
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
        runs, before = 1 + number // 250 % 4, 1 + number // 250 % 4 + 1  # adapters come, go and come again
        spread = (6.0, 4.0, 4.0) if seed == 0 else (4.0, 6.0, 4.0)  # one that is worse, ones that are better
        made = [np.sort(80 + rng.normal(0, one, (H, len(levels))), axis=1).astype(np.float32) for one in spread]
        on_trial = number % 250 > 100
        shadows = {"base": Made(adapter=None, quantiles=made[1])} if shadowed else {}
        if shadowed and on_trial:
            shadows["previous"] = Made(adapter=str(before), quantiles=made[2])
        field.remember("HR", Made(adapter=str(runs), quantiles=made[0]), levels, context, shadows)
        scale = core.etq_scale(context, L)
        assert scale == pytest.approx(in_context_scale(context[None])[0], rel=1e-12)
        core.remember(
            c.at, now, scale, runs, made[0], made[1].ctypes.data if shadowed else None, before,
            made[2].ctypes.data if shadowed and on_trial else None,
        )  # fmt: skip
    field.end_stay("HR")
    core.etq_end_stay(c.at)
    held = field._signals["HR"]
    assert len(held) == 3
    assert {name for scored in held for name in scored.against} == {"base", "previous"}
    for place, scored in enumerate(held):
        np.testing.assert_allclose(c.state(place), state_of(scored), rtol=1e-9, atol=1e-12)
    assert len(c.state(3)) == 0 or c.core.state(c.signal, 3, np.zeros(1)) == -1
    figures = np.zeros(5)
    core.figures(c.signal, figures)
    total = held[-1].total
    wanted = [total.wql, total.mase, total.coverage, total.missing, held[-1].against["base"].percent]
    np.testing.assert_allclose(figures, wanted, rtol=1e-9, atol=1e-9)


def losses(seed: int, count: int = 600) -> tuple[float, np.ndarray, np.ndarray]:
    """Give what is allowed, and losses of units: with nothing lost here and there, and some that become worse."""
    rng = np.random.default_rng(seed)
    own = np.exp(rng.normal((-0.06, 0.0, 0.06)[seed // 2], 0.078, count)) * rng.uniform(0.1, 900, count)
    other = own * np.exp(rng.normal(0, 0.05, count))
    own[::97], other[::97], own[5], other[7] = 0.0, 0.0, 0.0, 0.0
    if seed // 2 == 2:
        own[300:] *= 1.1
    return (1.0, 1.02, 0.9)[seed % 3], own, other


def evidence(allowed: float, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The Python runtime's, in the probe's order, after each unit."""
    trial, drift, out = Trial.at(allowed), Drift.none(), []
    for a, b in zip(own.tolist(), other.tolist(), strict=True):
        trial.add(a, b)
        drift.add(difference(a, b))
        rows = zip(trial.worse.logs, trial.better.logs, drift.logs, strict=True)
        logs = [one for row in rows for one in row]
        out.append([*logs, trial.worse.log, VERDICTS[trial.verdict], float(drift.flagged)])
    return np.array(out)


@pytest.mark.parametrize("seed", range(6))
def test_evidence_on_the_same_losses_agrees_to_the_last_digits(core: ctypes.CDLL, seed: int) -> None:
    allowed, own, other = losses(seed)
    got = np.zeros((len(own), 18))
    core.trial(allowed, own, other, len(own), got)
    wanted = evidence(allowed, own, other)
    assert wanted[-1, 16] > 0 or allowed == 1.0
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


MAIN = r"""
#include <stdio.h>
int main(void)
{
    static double allowed, own[600], other[600], out[600 * 18];
    size_t read = fread(&allowed, sizeof allowed, 1, stdin) + fread(own, sizeof own, 1, stdin);
    if (read + fread(other, sizeof other, 1, stdin) != 3) return 1;
    trial(allowed, own, other, 600, out);
    return fwrite(out, sizeof out, 1, stdout) == 1 ? 0 : 1;
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_evidence_agrees_on_every_processor(processor: str, tmp_path: Path) -> None:
    compiler, emulator = PROCESSORS[processor]
    need(compiler, *([emulator] if emulator else []))
    source, binary, quality = tmp_path / "main.c", tmp_path / "main", SOURCE / "quality"
    source.write_text(PROBE + MAIN)
    sources = [source, *(quality / name for name in FIELD_C)]
    done = run(compiler, "-std=c99", "-O2", "-static", "-I", quality, *sources, "-o", binary, "-lm")
    assert done.returncode == 0, done.stderr
    for seed in range(6):
        allowed, own, other = losses(seed)
        sent = struct.pack("<d", allowed) + own.tobytes() + other.tobytes()
        command = [*([emulator] if emulator else []), str(binary)]
        out = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=120).stdout
        got = np.frombuffer(out).reshape(600, 18)
        np.testing.assert_allclose(got, evidence(allowed, own, other), rtol=1e-12, atol=1e-12)


def test_a_worker_that_is_late_loses_no_score(core: ctypes.CDLL) -> None:
    c = Series(core)
    quantiles = np.full((H, 9), 80.0, dtype=np.float32)
    for step in range(60):
        core.etq_observe(c.at, step * INTERVAL, 81.0)
    for origin in range(60):
        core.remember(c.at, origin, 1.0, 1, quantiles, None, 0, None)
    core.etq_end_stay(c.at)
    total = Sums(c.total())
    assert total.steps == sum(min(H, 59 - origin) for origin in range(60))
    assert core.dropped(c.at) == 0


NO_FORECAST = [
    {"steps": 0}, {"levels": 0}, {"levels": 65}, {"steps": 1 << 20}, {"forecasters": 0}, {"forecasters": 4},
]  # fmt: skip


@pytest.mark.parametrize("wrong", NO_FORECAST, ids=str)
def test_what_no_forecast_has_takes_no_memory(core: ctypes.CDLL, wrong: dict[str, int]) -> None:
    sizes = {"steps": H, "levels": 9, "forecasters": 2} | wrong
    assert core.etq_memory(sizes["steps"], sizes["levels"], LATE, sizes["forecasters"]) == 0


@pytest.mark.parametrize("levels", [(0.5, 0.5), (0.9, 0.1), (0.0, 0.5), (0.5, 1.0), (math.nan,)])
def test_levels_that_do_not_ascend_are_refused(core: ctypes.CDLL, levels: tuple[float, ...]) -> None:
    series, signal = (ctypes.create_string_buffer(size) for size in (core.series_size(), core.signal_size()))
    memory = (ctypes.c_double * 8_192)()
    begin = partial(core.begin, series, signal, memory)
    assert not begin(65_536, INTERVAL, H, np.array(levels), len(levels), LATE, 1e9, False, 0.0)
    assert not begin(16, INTERVAL, H, np.array(LEVELS), 9, LATE, 1e9, False, 0.0)
    assert begin(65_536, INTERVAL, H, np.array(LEVELS), 9, LATE, 1e9, False, 0.0)


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


SAMPLE = SOURCE / "sample_data"


def lines_of(steps: range) -> str:
    """Values of the sample's signal, an hour apart; every eleventh is missing."""
    values = ((step, 75.0 + 9 * math.cos(step / 4) + step % 3) for step in steps if step % 11)
    return "".join(f"0 {step * 3_600_000} {value:.1f} 0\n" for step, value in values)


AT_ONCE = 40  # steps: the service skips steps when more than 64 wait for its worker


def push(service: Service, steps: range) -> list[dict[str, Any]]:
    """Push values in parts, each when the forecasts of the one before are out; return them."""
    made = []
    for at in range(steps.start, steps.stop, AT_ONCE):
        part = [step for step in range(at, min(at + AT_ONCE, steps.stop)) if step % 11]
        for line in lines_of(range(part[0], part[-1] + 1)).splitlines(keepends=True):
            service.write(line)
        made += service.forecasts(part[-1] - (service.step or part[0]))  # of each step that has ended, missing ones too
        service.step = part[-1]
    return made


def serve(built: Path, library: Path, steps: range, *options: object) -> tuple[list[dict[str, Any]], Any, str]:
    """Run the service on values; return its forecasts, its last word on quality, and standard error."""
    fixed = ["--signal", "MAP", "--quality", "1"]
    adapter = SAMPLE / "ward.etsa"
    binary, bundle = built / "service" / "etsa-service", Bundle.open(SAMPLE / "bundle")
    service = Service(binary, library, bundle, adapter, *fixed, *options, interval="1h")
    made = push(service, steps)
    rest, said = service.finish()
    (last,) = (line for line in said.splitlines() if '"steps"' in line)
    assert "were skipped" not in said
    return [*made, *rest], json.loads(last.partition("etsa-service: ")[2]), said


def figures_in(folder: Path) -> dict[str, Any]:
    """What `edge-tsfm-device quality --json` says of a state folder."""
    field = FieldQuality(QualityRules(), ratio=1.02)
    assert load(PosixDisk(folder), field) == ""
    return field.figures()


def test_the_service_goes_on_with_the_figures_that_it_kept(built: Path, library: Path, tmp_path: Path) -> None:
    kept = ["--quality-file", tmp_path / "quality", "--max-wql-vs-base", "2"]
    _, first, _ = serve(built, library, range(200), *kept)
    (runs,) = figures_in(tmp_path)["MAP"]
    assert (runs["steps"], runs["adapter"]) == (first["steps"], first["adapter"])
    assert runs["adapter"] == hashlib.sha256(blob_of(SAMPLE / "ward.etsa")).hexdigest()
    assert runs["wql"] == pytest.approx(first["wql"], rel=1e-8)
    assert runs["against"]["base"]["wql_percent"] == pytest.approx(first["beside_base"]["percent"], rel=1e-6)
    assert published(PosixDisk(tmp_path))["MAP"][0]["total"][1] > 100
    _, second, _ = serve(built, library, range(200, 400), *kept)
    (runs,) = figures_in(tmp_path)["MAP"]
    assert second["steps"] == runs["steps"] > 1.9 * first["steps"]
    assert second["beside_base"]["units"] > 1.8 * first["beside_base"]["units"]
    (tmp_path / "quality").write_bytes((tmp_path / "quality").read_bytes()[:-9])
    _, third, said = serve(built, library, range(400, 600), *kept)
    assert "figures begin anew" in said
    assert "is damaged" in said
    assert third["steps"] < first["steps"] + 20


def blob_of(path: Path) -> bytes:
    """Return a signed file's blob."""
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 8)[0]
    return data[:size]


@pytest.mark.parametrize(("percent", "verdict"), [("-90", "worse"), ("1000", "better")])
def test_every_forecast_says_what_the_field_says_of_its_adapter(
    built: Path, library: Path, percent: str, verdict: str
) -> None:
    made, last, _ = serve(built, library, range(600), "--max-wql-vs-base", percent, "--min-scored", "300")
    verdicts = [one["verdict"] for one in made]
    at = verdicts.index(verdict)
    assert at > 50  # 300 steps, of 6 for a forecast
    assert verdicts == ["open"] * at + [verdict] * (len(made) - at)
    assert last["verdict"] == verdict


def test_without_a_limit_nothing_is_judged(built: Path, library: Path) -> None:
    made, last, _ = serve(built, library, range(100))
    assert all("verdict" not in one for one in made)
    assert last["verdict"] == "open"


WRONG = [
    "--max-wql-vs-base 2",
    "--beside-previous",
    "--quality-file x",
    "--quality 0 --beside-previous",
    "--quality 1 --max-wql-vs-base -95",
    "--quality 1 --max-wql-vs-base 2x",
    "--quality 1 --min-scored 0",
]


@pytest.mark.parametrize("options", WRONG)
def test_options_that_mean_nothing_together_are_wrong_usage(built: Path, library: Path, options: str) -> None:
    binary = built / "service" / "etsa-service"
    done = run(binary, SAMPLE / "bundle", "--library", library, *options.split(), stdin="")
    assert (done.returncode, done.stderr.startswith("usage:")) == (2, True)


def test_the_adapter_before_forecasts_beside_the_one_that_replaced_it(
    built: Path, library: Path, tmp_path: Path
) -> None:
    path, first = tmp_path / "map.etsa", blob_of(SAMPLE / "ward.etsa")
    other = decode(first)
    second = encode(replace(other, version=other.version + 1))
    path.write_bytes(first)
    kept = tmp_path / "quality"
    options = ["--signal", "MAP", "--quality", "1", "--beside-previous", "--quality-file", kept]
    service = Service(
        built / "service" / "etsa-service", library, Bundle.open(SAMPLE / "bundle"), path, *options, interval="1h"
    )
    service.log("channel 0 runs")

    push(service, range(1, 60))
    written = tmp_path / "next.etsa"
    written.write_bytes(second)
    written.rename(path)
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 runs")
    push(service, range(60, 160))
    service.process.send_signal(signal.SIGTERM)
    _, said = service.finish()
    held = {one["adapter"]: one for one in figures_in(tmp_path)["MAP"]}
    names = [hashlib.sha256(blob).hexdigest() for blob in (first, second)]
    assert set(held) == set(names)
    beside = held[names[1]]["against"]["previous"]
    assert beside["adapter"] == names[0]
    assert beside["wql_percent"] == pytest.approx(0, abs=1e-9)  # the same numbers under another version
    assert beside["other"]["steps"] > 300
    assert "previous" not in held[names[0]]["against"]
    assert json.loads(said.splitlines()[0].partition("etsa-service: ")[2])["beside_previous"]["steps"] > 300
