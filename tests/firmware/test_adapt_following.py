"""Following one stream in C moves its forecasts to the Python runtime's bits, on any stream."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_runtime.adapt.rules import AdaptRules
from device_runtime.update.following import Following

from .adapt_block import LEVELS, SANITIZED, compiled
from .adapt_core import followed
from .conftest import need
from .test_processors import PROCESSORS

SECOND, STEPS = 1_000, 6
EVENTS = ("step", "step", "step", "step", "again", "late", "gap", "back", "end", "nothing", "early", "twice", "ahead")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("following"), "cc", *SANITIZED, program="following")


def head(rules: AdaptRules, interval_ms: int, steps: int, late: int, levels: tuple[float, ...] = LEVELS) -> bytes:
    reals = (rules.offset_rate, rules.width_rate, rules.cap_tracking)
    sizes = struct.pack("<4Iq3d", len(levels), steps, late, rules.long_stream, interval_ms, *reals)
    return sizes + np.array(levels).tobytes()


def lived(
    rules: AdaptRules, events: list[str], *, seed: int, interval_ms: int, late: int, steps: int, scale: float = 10.0
) -> tuple[list[bytes], bytes, int]:
    """A stream: the script, what C must write, and how many forecasts were learnt from."""
    rng, t = np.random.default_rng(seed), 10**12
    one = Following(rules, interval_ms=interval_ms, late_steps=late)
    script, wanted, learnt = [head(rules, interval_ms, steps, late)], [], 0
    newest: int | None = None
    longest = 0
    for event in events:
        moves, value = True, float(rng.normal(80, scale))
        if event == "end":
            one.end_stay(series="")
            script.append(b"E")
            newest, longest = None, 0
            continue
        if event == "step":
            t += interval_ms
        elif event == "gap":
            t += int(rng.integers(2, 90)) * interval_ms
        elif event == "back":
            t -= int(rng.integers(1, 150)) * interval_ms
        elif event == "nothing":
            value = float(rng.choice([np.nan, np.inf, 1e39]))
        stamp = t + int(rng.integers(0, interval_ms))
        if event == "late":
            stamp -= int(rng.integers(1, 10)) * interval_ms
        elif event == "early":
            moves = False
        one.observe(stamp, value, series="")
        script.append(struct.pack("<cqd", b"S", stamp, value))
        newest = stamp if newest is None else max(newest, stamp)
        for _ in range(moves + (event == "twice")):
            count = steps if longest == 0 else int(rng.integers(max(1, steps - 1), steps + 1))
            longest = longest or count
            quantiles = np.sort(rng.normal(80, scale / 2, (count, len(LEVELS))), axis=1).astype(np.float32)
            origin = newest + (int(rng.integers(1, 4)) * interval_ms if event == "ahead" else 0)  # of a missing step
            found = one.move(quantiles, LEVELS, origin, series="")
            script.append(struct.pack("<cqI", b"M", origin, count) + quantiles.tobytes())
            tracking = one._series[""].tracking
            moved = quantiles if found is None else found.quantiles
            wanted.append(struct.pack("<3d", found is not None, tracking.updates, tracking.factor) + moved.tobytes())
            learnt = max(learnt, tracking.updates)
    return script, b"".join(wanted), learnt


def rules(**said: Any) -> AdaptRules:
    return AdaptRules(**{"long_stream": True, "offset_rate": 0.01, "width_rate": 0.1, "cap_tracking": 0.3, **said})


@pytest.mark.parametrize("which", [{}, {"width_rate": 0.0}, {"long_stream": False}], ids=str)
def test_a_stream_is_followed_to_the_same_bits(program: Path, which: dict[str, Any]) -> None:
    script, wanted, learnt = lived(rules(**which), ["step"] * 500, seed=1, interval_ms=SECOND, late=2, steps=STEPS)
    assert followed(program, script) == wanted
    assert learnt > 480


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=150), seed=st.integers(0, 2**32),
    late=st.integers(0, 5), steps=st.sampled_from([1, 6, 40]), scale=st.sampled_from([10.0, 1e38]),
    interval_ms=st.sampled_from([SECOND, 300_000, 3_600_000]),
)  # fmt: skip
def test_any_stream_is_followed_to_the_same_bits(
    program: Path, events: list[str], seed: int, late: int, steps: int, scale: float, interval_ms: int
) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        script, wanted, _ = lived(
            rules(), events, seed=seed, interval_ms=interval_ms, late=late, steps=steps, scale=scale
        )
    assert followed(program, script) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_bits_are_the_same_on_every_processor(processor: str, tmp_path: Path) -> None:
    compiler, emulator = PROCESSORS[processor]
    need(compiler, *([emulator] if emulator else []))
    binary = compiled(tmp_path, compiler, "-O3", "-ffp-contract=fast", "-static", program="following")
    script, wanted, _ = lived(rules(), [*EVENTS, *["step"] * 30] * 9, seed=2, interval_ms=SECOND, late=2, steps=STEPS)
    assert followed(binary, script, emulator=emulator) == wanted


@pytest.mark.parametrize(
    ("said", "levels"),
    [
        ({"width_rate": 0.0, "long_stream": False}, LEVELS),
        ({"width_rate": 0.0, "offset_rate": 0.0}, LEVELS),
        ({}, (0.1, 0.9)),
        ({}, (0.9, 0.5, 0.1)),
    ],
    ids=str,
)
def test_what_moves_nothing_is_refused(program: Path, said: dict[str, Any], levels: tuple[float, ...]) -> None:
    sent = head(rules(**said), SECOND, STEPS, 2, levels)
    done = subprocess.run([program], input=sent, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"")
