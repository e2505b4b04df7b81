"""One person's stream is followed while the stay lasts, within the caps, and forgotten at its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_runtime.adapt.modes import Mode
from device_runtime.format.binding import Use
from device_runtime.update.following import Following
from tests.simulators.learning_bed import QUICK, LearningBed, envelope_for

LEVELS = tuple(round(0.1 * n, 1) for n in range(1, 10))
FLAT = np.tile(np.linspace(10, 18, 9, dtype=np.float32), (6, 1))
MINUTE = 60_000


def bounded(folder: Path, **rules: object) -> LearningBed:
    bed = LearningBed(folder, mode=Mode.BOUNDED, envelope=False, **rules)
    bed.give(envelope_for(bed.config.bundle, mode=Mode.BOUNDED, rules=rules))
    bed.host = bed.start()
    return bed


def feed(bed: LearningBed, hours: int, value: float) -> object:
    forecast = None
    for _ in range(hours):
        bed.t_ms += 60 * MINUTE
        bed.host.observe("RESP", bed.t_ms, value, series="bed")
        context = [14.0 + step % 5 for step in range(24)]
        use = Use(signal="RESP", interval_us=3_600_000_000)
        forecast = bed.host.forecast(context, 6, use=use, series="bed")
    return forecast


def test_the_width_follows_the_stream_and_is_forgotten_with_the_stay(tmp_path: Path) -> None:
    bed = bounded(tmp_path, width_rate=0.2)
    first = feed(bed, 1, 14.0)
    assert (first.tracked, first.width_factor) == (0, 1.0)  # type: ignore[attr-defined]
    later = feed(bed, 60, 200.0)  # far outside of every band
    assert later.tracked > 20  # type: ignore[attr-defined]
    assert later.width_factor == pytest.approx(1.5)  # type: ignore[attr-defined]  # its cap
    bed.host.end_stay("RESP", series="bed")
    assert feed(bed, 1, 14.0).width_factor == 1.0  # type: ignore[attr-defined]


def test_nothing_is_followed_in_shadow_or_without_an_envelope_or_by_default(tmp_path: Path) -> None:
    for number, (mode, envelope, rules) in enumerate(
        ((Mode.SHADOW, True, {"width_rate": 0.2}), (Mode.BOUNDED, False, {"width_rate": 0.2}), (Mode.BOUNDED, True, {}))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        bed = LearningBed(folder, mode=mode, envelope=False, **rules)
        if envelope:
            bed.give(envelope_for(bed.config.bundle, mode=Mode.BOUNDED, rules=rules))
        bed.host = bed.start()
        assert feed(bed, 20, 200.0).tracked is None  # type: ignore[attr-defined]


def test_offsets_want_a_long_dense_stream_and_keep_to_their_cap() -> None:
    from device_runtime.adapt.rules import AdaptRules

    rules = AdaptRules(**{**QUICK, "long_stream": True, "offset_rate": 0.01, "cap_tracking": 0.3})
    assert not Following(rules, interval_ms=60 * MINUTE, late_steps=2).moves
    assert not Following(replace(rules, long_stream=False), interval_ms=MINUTE, late_steps=2).moves
    following = Following(rules, interval_ms=MINUTE, late_steps=2)
    assert following.moves
    for step in range(300):
        following.observe(step * MINUTE, 500.0, series="a")
        moved = following.move(FLAT, LEVELS, step * MINUTE, series="a")
        assert moved is not None
    assert np.abs(moved.quantiles - FLAT).max() <= 0.3 * 8 + 1e-4
    assert moved.quantiles[0, -1] > FLAT[0, -1] + 1
    assert following.move(FLAT[:, :5], LEVELS[:5], 0, series="b") is None  # no median between two others


def test_a_series_more_than_are_followed_is_left_as_it_is() -> None:
    from device_runtime.adapt.rules import AdaptRules

    following = Following(AdaptRules(width_rate=0.1), interval_ms=MINUTE, late_steps=2)
    for number in range(64):
        assert following.move(FLAT, LEVELS, 0, series=str(number)) is not None
    assert following.move(FLAT, LEVELS, 0, series="one more") is None
