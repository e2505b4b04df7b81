"""What a forecast of etsa-service waits for while there is always something to learn: one piece of work, by count."""

from __future__ import annotations

from pathlib import Path

from device_runtime.forecast.bundle import Bundle

from .conftest import SOURCE, run

PROGRAM = Path(__file__).with_name("idle_program.c")
LIBRARIES = (
    "service/libetsa_service.a", "forecast_ort/libetsa_forecaster.a", "libetsa_adapt.a", "libetsa_learn.a",
    "libetsa_quality.a", "libetsa_ed25519.a", "libetsa.a",
)  # fmt: skip


def test_a_forecast_waits_for_no_more_than_the_piece_that_is_being_done(
    tmp_path: Path, built: Path, library: Path, bundle: Bundle
) -> None:
    """It becomes due in the middle of a piece; the next one begins behind the forecasts of all channels.

    That a piece runs the state graph once or takes one step, and not both, is checked wherever `adapt_program.c` runs.
    """
    where = [part for name in ("service", "quality", "etsa", "forecast_ort") for part in ("-I", SOURCE / name)]
    linked = [*(built / one for one in LIBRARIES), "-Wl,--gc-sections", "-lm", "-lpthread", "-ldl"]
    done = run("cc", "-std=c99", "-g", *where, PROGRAM, *linked, "-o", tmp_path / "idle")
    assert done.returncode == 0, done.stderr
    done = run(tmp_path / "idle", library, bundle.path)
    assert done.returncode == 0, done.stderr
    lines = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert [channel for channel, _, _ in lines] == [0, 1] * (len(lines) // 2)
    assert len(lines) >= 40
    assert {began for _, began, _ in lines} == {0}
    assert {code for _, _, code in lines} == {0}
