"""The time left: right from the first minute, whatever the parts of the work cost."""

from __future__ import annotations

import pytest

from edge_tsfm.cli.progress import EVERY, Progress
from edge_tsfm.progress import Work, say_seconds


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run_of_800(clock: Clock, work: Work) -> list[tuple[int, float | None, float]]:
    """A run as `train` makes it, steps of 0.1 s (the first 5 s), validations of 8 s, a gate of 60 s: told, and true."""
    truth = {"step": 800 * 0.1, "validation": 16 * 8.0, "gate": 60.0}
    work.plan(gate=2)
    with work.timed("gate"):
        clock.now += 60
    with work.timed("validation"):
        clock.now += 8
    work.plan(step=800, validation=16)
    told = []
    for step in range(800):
        with work.timed("step"):
            clock.now += 5 if step == 0 else 0.1
        truth["step"] -= 0.1
        if (step + 1) % 50 == 0:
            with work.timed("validation"):
                clock.now += 8
            truth["validation"] -= 8
        told.append((step + 1, work.left, sum(truth.values())))
    return told


def test_the_time_left_is_right_from_the_second_step_on() -> None:
    clock = Clock()
    told = run_of_800(clock, Work(clock))
    for step, left, truth in told[1:]:
        assert left == pytest.approx(truth, rel=0.02), step


def test_the_old_way_would_have_been_wrong() -> None:
    """Elapsed time over steps done, as a plain bar has it, at the tenth step: gate and validations are missing."""
    clock = Clock()
    told = run_of_800(clock, Work(clock))
    step, _, truth = told[9]
    start = 68.0  # reading, the base's forecasts and score, before the first step
    plain = (start + 5 + 0.9) / step * (800 - step)
    assert plain != pytest.approx(truth, rel=0.5)


def test_nothing_is_said_while_the_pace_of_some_of_it_is_unknown() -> None:
    work = Work(Clock())
    work.plan(step=10, gate=1)
    work.add("step", 1.0)
    assert work.left is None
    assert work.share == 0
    work.plan(gate=0)
    assert work.left == pytest.approx(9.0)
    assert work.share == pytest.approx(0.1)


def test_work_that_is_called_off_is_not_waited_for() -> None:
    work = Work(Clock())
    work.plan(step=100)
    work.add("step", 1.0)
    work.plan(step=0)
    assert (work.left, work.share) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (5_000, "83 min"), (7_500, "2 h 05 min")]
)
def test_times_are_said_in_one_way(seconds: float, said: str) -> None:
    assert say_seconds(seconds) == said


def test_without_a_terminal_there_is_a_line_every_half_minute_and_at_marks(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    work = Work(clock)
    work.plan(step=1000)
    with Progress("train", work, clock=clock) as progress:
        for step in range(1, 101):
            with work.timed("step"):
                clock.now += 1.0
            progress.update(f"step {step}", mark=step == 50)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["train: step 30", "train: step 50", "train: step 80"]
    assert "about 16 min left" in lines[0]
    assert EVERY == 30


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress("train", Work(clock), quiet=True, clock=clock) as progress:
        clock.now += 100
        progress.update("step 1", mark=True)
        progress.say("the gate has few patients")
    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_there_is_a_bar_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    clock = Clock()
    work = Work(clock)
    work.plan(step=4)
    with Progress("train", work, clock=clock) as progress:
        for step in range(1, 5):
            with work.timed("step"):
                clock.now += 60
            progress.update(f"step {step}")
    shown = capsys.readouterr().err
    assert "about 2 min left" in shown
    assert "step 4" in shown
