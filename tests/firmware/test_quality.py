"""Field quality in C: the sums of the Python runtime, by the same rules, with the caller's memory and no malloc."""

from __future__ import annotations

import ctypes
import math
import random
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import pytest

from device_runtime.quality.field import FieldQuality
from device_runtime.quality.pending import Made
from device_runtime.quality.rules import QualityRules
from device_runtime.quality.scores import Sums, in_context_scale

from .quality_core import ALLOWED, HALF_LIFE_DAYS, INTERVAL, LATE, LEVELS, H, L, Series, built_core, state_of


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return built_core(tmp_path_factory.mktemp("quality"))


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
