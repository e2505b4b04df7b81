"""`etsa-service --adapt` moves the forecasts of its stream as the Python runtime does, to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.adapt.rules import AdaptRules
from device_runtime.forecast.stream import Stream, StreamSignal
from device_runtime.update.following import Following
from tests.simulators.service_bed import ServiceBed

SECOND = 1_000
RULES: dict[str, Any] = {"long_stream": True, "offset_rate": 0.005, "width_rate": 0.1, "cap_tracking": 0.3}
AT_ONCE = 1  # event: a sample that comes late may still enter the context of a forecast that waits
Event = tuple[int, float] | None  # a sample, or the end of the stay


def stream(seed: int) -> list[list[Event]]:
    """Two stays and a clock that was set, in parts: late, repeated and missing samples among them."""
    rng, t = np.random.default_rng(seed), 10**9
    parts: list[list[Event]] = []
    for jump, end in ((0, True), (5_000, False), (86_400_000, True)):
        t += jump
        part: list[Event] = []
        for _ in range(90):
            kind = rng.choice(["step", "step", "step", "twice", "late", "gap"])
            t += SECOND * (int(rng.integers(2, 9)) if kind == "gap" else 1)
            times = [t + int(rng.integers(0, 500))]
            times += [times[0] + 300] if kind == "twice" else []
            times += [t - SECOND * int(rng.integers(1, 12))] if kind == "late" else []
            part += [(one, round(float(rng.normal(20, 6)), 3)) for one in times]
        parts.append([*part, None] if end else part)
    return parts


class Python:
    """The Python runtime's tracking, fed by its stream, for forecasts that were made without it."""

    def __init__(self, length: int, levels: tuple[float, ...]) -> None:
        self.following = Following(AdaptRules(**RULES), interval_ms=SECOND, late_steps=2)
        self.stream = Stream(self, (StreamSignal(name="RESP", interval_ms=SECOND),), context_length=length)
        self.length, self.levels = length, levels
        self.wanted: list[dict[str, Any]] = []

    def observe(self, signal: str, t_ms: int, value: float, **more: Any) -> None:
        self.following.observe(t_ms, value, series="")

    def end_stay(self, signal: str, **more: Any) -> None:
        self.following.end_stay(series="")

    def forecast(self, *given: Any, **more: Any) -> Any:
        raise AssertionError("the service forecasts")

    def due(self, event: Event) -> range:
        """The steps that an event closes: they are forecast from before it is taken."""
        newest = self.stream._buffers["RESP"].newest
        if event is None or newest is None or abs(event[0] // SECOND - newest) >= self.length:
            return range(0)
        return range(newest, event[0] // SECOND)

    def take(self, event: Event, made: Iterator[dict[str, Any]]) -> None:
        for step in self.due(event):
            plain = next(made)["quantiles"]
            quantiles = np.array([plain[f"{level:g}"] for level in self.levels], dtype=np.float32).T
            found = self.following.move(quantiles, self.levels, step * SECOND, series="")
            assert found is not None
            said = {"tracked": found.updates, "width_factor": found.width, "quantiles": found.quantiles.T.tolist()}
            self.wanted.append(said)
        if event is None:
            self.stream.end_stay("RESP")
        else:
            self.stream.push("RESP", *event)


def made_by(bed: ServiceBed, length: int, levels: tuple[float, ...], parts: list[list[Event]]) -> list[dict[str, Any]]:
    """Feed the stream to a service; return its forecasts."""
    made: list[dict[str, Any]] = []
    clock = Python(length, levels)  # only its stream: how many forecasts a part leads to
    bed.start()
    assert bed.process is not None
    assert bed.process.stdin is not None
    assert bed.process.stdout is not None
    try:
        # A clock that is set gives up the forecasts that are due, so it begins a part of its own.
        for part in [whole[at : at + AT_ONCE] for whole in parts for at in range(0, len(whole), AT_ONCE)]:
            count = 0
            for event in part:
                count += len(clock.due(event))
                if event is None:
                    clock.stream.end_stay("RESP")
                else:
                    clock.stream.push("RESP", *event)
            lines = ["0 end" if event is None else f"0 {event[0]} {event[1]} 0" for event in part]
            bed.process.stdin.write("".join(f"{line}\n" for line in lines))
            bed.process.stdin.flush()
            made += [json.loads(bed.process.stdout.readline()) for _ in range(count)]
    finally:
        bed.end()
    return made


@pytest.mark.parametrize("mode", ["bounded", "active"])
def test_a_stream_is_moved_to_the_bits_of_python(mode: str, tmp_path: Path, built: Path, library: Path) -> None:
    beds = {
        one: ServiceBed(
            tmp_path / one, built / "service" / "etsa-service", library, mode=one, interval="1s", rules=RULES
        )
        for one in ("shadow", mode)
    }
    manifest = json.loads((beds[mode].bundle / "bundle.json").read_text())
    length, levels = int(manifest["context_length"]), tuple(manifest["quantile_levels"])
    parts = stream(seed=1)
    plain, moved = (made_by(bed, length, levels, parts) for bed in beds.values())
    assert not any("tracked" in one for one in plain)
    python, raw = Python(length, levels), iter(plain)
    for event in (event for part in parts for event in part):
        python.take(event, raw)
    assert len(python.wanted) == len(moved) > 200
    for want, got in zip(python.wanted, moved, strict=True):
        assert (got["tracked"], got["width_factor"]) == (want["tracked"], want["width_factor"])
        quantiles = np.array([got["quantiles"][f"{level:g}"] for level in levels], dtype=np.float32)
        assert quantiles.tolist() == want["quantiles"]
    assert max(one["tracked"] for one in moved) > 50
    changed = [one["quantiles"] != other["quantiles"] for one, other in zip(plain, moved, strict=True)]
    assert sum(changed) > 150


def test_nothing_is_moved_without_an_envelope(tmp_path: Path, built: Path, library: Path) -> None:
    bed = ServiceBed(
        tmp_path,
        built / "service" / "etsa-service",
        library,
        mode="bounded",
        interval="1s",
        rules=RULES,
        envelope=False,
    )
    manifest = json.loads((bed.bundle / "bundle.json").read_text())
    made = made_by(bed, int(manifest["context_length"]), tuple(manifest["quantile_levels"]), stream(seed=1)[:1])
    assert len(made) > 60
    assert not any("tracked" in one for one in made)
