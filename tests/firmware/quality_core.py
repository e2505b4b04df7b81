"""The C field quality with a probe beside it, as tests call it, and the Python runtime's state in the probe's order."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from device_runtime.quality.evidence import Verdict
from device_runtime.quality.scored import Scored
from device_runtime.quality.scores import PLACES

from .conftest import SOURCE, need, run

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


def built_core(folder: Path) -> ctypes.CDLL:
    """Build the probe and the field quality into a library, and say what its functions take."""
    need("cc")
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
