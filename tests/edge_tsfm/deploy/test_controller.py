"""The roll-out controller at its boundaries, in hawkBit's words, and who is among the first."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_runtime.update.cohort import position, takes_part
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.controller import DEFAULT_PLAN, HOUR, Action, Stage, count, decide, read_plan
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.errors import ConfigError, DeployError
from tests.simulators.publisher import NOW, approve_version, make_repository, write_json

# min_reports 4, at most 1 failure and 25 %, at least 75 % confirmed, 2 h of soak
STAGE = Stage(
    permille=100, min_reports=4, max_failures=1, max_failure_percent=25.0, success_percent=75.0, soak_hours=2.0
)
LAST = Stage(permille=1000, min_reports=1, soak_hours=0.0)
SOAKED = 2 * HOUR

# confirmed, failed, seconds, options → action
CASES: dict[str, tuple[int, int, float, dict[str, Any], Action]] = {
    "zero reports do not fire": (0, 0, 99 * HOUR, {}, Action.WAIT),
    "below minimum reports nothing is decided": (3, 0, SOAKED, {}, Action.WAIT),
    "exactly at minimum reports": (4, 0, SOAKED, {}, Action.ADVANCE),
    "failures exactly at the threshold do not fire": (3, 1, SOAKED, {}, Action.ADVANCE),
    "failures above the threshold fire": (100, 2, SOAKED, {}, Action.STOP),
    "failures above the threshold fire below minimum reports": (0, 2, 0.0, {}, Action.STOP),
    "failures above the threshold fire while paused": (9, 2, 0.0, {"paused": True}, Action.STOP),
    "failures above the threshold fire though approved": (9, 2, SOAKED, {"approved": True}, Action.STOP),
    "a moment before the soak ends": (4, 0, SOAKED - 1, {}, Action.WAIT),
    "exactly at the end of the soak": (4, 0, SOAKED, {}, Action.ADVANCE),
    "paused is not advanced": (4, 0, SOAKED, {"paused": True}, Action.WAIT),
}


@pytest.mark.parametrize("name", CASES)
def test_boundaries(name: str) -> None:
    confirmed, failed, seconds, options, action = CASES[name]
    decision = decide((STAGE, LAST), 0, confirmed=confirmed, failed=failed, seconds=seconds, **options)
    assert decision.action is action, decision
    assert (decision.confirmed, decision.failed) == (confirmed, failed)


@pytest.mark.parametrize(
    ("confirmed", "failed", "action"),
    [(95, 5, Action.ADVANCE), (94, 6, Action.STOP), (19, 1, Action.ADVANCE), (18, 1, Action.STOP), (2, 1, Action.WAIT)],
    ids=["exactly at", "above", "exactly at, few", "above, few", "above, before minimum reports"],
)
def test_relative_failures(confirmed: int, failed: int, action: Action) -> None:
    stage = Stage(permille=1, min_reports=10, max_failures=99, max_failure_percent=5.0, soak_hours=0.0)
    assert decide((stage, LAST), 0, confirmed=confirmed, failed=failed, seconds=0).action is action


@pytest.mark.parametrize(("confirmed", "action"), [(89, Action.WAIT), (90, Action.ADVANCE)])
def test_success_is_reached_when_it_is_met(confirmed: int, action: Action) -> None:
    stage = Stage(permille=1, max_failures=99, max_failure_percent=100.0, success_percent=90.0, soak_hours=0.0)
    assert decide((stage, LAST), 0, confirmed=confirmed, failed=100 - confirmed, seconds=0).action is action


def test_a_person_is_asked_only_when_all_is_well() -> None:
    stage = Stage(permille=10, approval=True, soak_hours=1.0)
    assert decide((stage, LAST), 0, confirmed=1, failed=0, seconds=0).action is Action.WAIT
    assert decide((stage, LAST), 0, confirmed=1, failed=0, seconds=HOUR).action is Action.ASK
    assert decide((stage, LAST), 0, confirmed=1, failed=0, seconds=HOUR, approved=True).action is Action.ADVANCE
    assert decide((stage, LAST), 0, confirmed=0, failed=0, seconds=HOUR, approved=True).action is Action.WAIT


def test_the_last_stage_finishes() -> None:
    assert decide((STAGE, LAST), 1, confirmed=1, failed=0, seconds=0).action is Action.FINISH
    assert decide((LAST,), 0, confirmed=0, failed=0, seconds=99 * HOUR).action is Action.WAIT


REPORT = {"channel": "icu", "sequence": 3, "candidate_sequence": None, "failed_sequence": -1}


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, (1, 0)),
        ({"channel": "ward"}, (0, 0)),
        ({"sequence": 2}, (0, 0)),
        ({"sequence": None}, (0, 0)),
        ({"candidate_sequence": 3}, (0, 0)),  # on trial
        ({"sequence": 2, "candidate_sequence": 3}, (0, 0)),  # staged
        ({"sequence": 2, "failed_sequence": 3}, (0, 1)),
        ({"failed_sequence": 3}, (0, 1)),  # confirmed once and taken back by hand
        ({"sequence": 2, "failed_sequence": 4}, (0, 0)),
    ],
)
def test_what_a_report_counts_for(changes: dict[str, Any], counted: tuple[int, int]) -> None:
    assert count([{**REPORT, **changes}], ring="icu", sequence=3) == counted


def test_devices_that_vanish_hold_a_stage_up_and_never_advance_it() -> None:
    reports = [REPORT] * 4
    assert count(reports[:2], ring="icu", sequence=3) == (2, 0)
    assert decide((STAGE, LAST), 0, confirmed=2, failed=0, seconds=999 * HOUR).action is Action.WAIT


PLANS = {
    "empty": "stage = []",
    "none": "",
    "unknown key": "[[stage]]\npermille = 1\nspeed = 9",
    "unknown table": "x = 1\n[[stage]]\npermille = 1",
    "negative": "[[stage]]\npermille = -1",
    "above all": "[[stage]]\npermille = 1001",
    "percent above hundred": "[[stage]]\npermille = 1\nsuccess_percent = 101.0",
    "percent below zero": "[[stage]]\npermille = 1\nmax_failure_percent = -1.0",
    "no reports wanted": "[[stage]]\npermille = 1\nmin_reports = 0",
    "negative soak": "[[stage]]\npermille = 1\nsoak_hours = -1.0",
    "shrinking": "[[stage]]\npermille = 100\n[[stage]]\npermille = 10",
    "losing a group": '[[stage]]\npermille = 1\ngroups = ["a"]\n[[stage]]\npermille = 10',
    "no TOML": "[[",
    "text for a number": '[[stage]]\npermille = "10"',
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_that_cannot_be_meant_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^plan\.toml: "):
        read_plan(PLANS[name].encode(), "plan.toml")


def test_the_default_plan_begins_small_and_asks() -> None:
    assert [stage.permille for stage in DEFAULT_PLAN] == [10, 100, 1000]
    assert DEFAULT_PLAN[0].approval


# --- who is among the first -----------------------------------------------------------------------------------------


@given(salt=st.text(max_size=20), device=st.text(max_size=20), low=st.integers(0, 1000), high=st.integers(0, 1000))
def test_raising_the_share_never_takes_a_device_out(salt: str, device: str, low: int, high: int) -> None:
    low, high = sorted((low, high))
    assert takes_part(salt, device, high) or not takes_part(salt, device, low)


@given(salt=st.text(max_size=20), device=st.text(max_size=20))
def test_nobody_at_zero_everybody_at_a_thousand(salt: str, device: str) -> None:
    assert not takes_part(salt, device, 0)
    assert takes_part(salt, device, 1000)


def test_a_named_group_takes_part_in_any_case() -> None:
    assert takes_part("s", "d", 0, groups=["canary"], own_groups=["ward-3", "canary"])
    assert not takes_part("s", "d", 0, groups=["canary"], own_groups=["ward-3"])
    assert not takes_part("s", "d", 0, groups=[], own_groups=[])


def test_positions_are_uniform_and_another_salt_is_another_order() -> None:
    """χ² over 100,000 ids in 100 cells: with 99 degrees of freedom, 149 is exceeded once in a thousand draws."""
    cells: Counter[int] = Counter(position("icu-1", f"bed-{number}") * 100 >> 64 for number in range(100_000))
    assert sum((cells[cell] - 1_000) ** 2 / 1_000 for cell in range(100)) < 149
    first = {number for number in range(10_000) if takes_part("icu-1", f"bed-{number}", 100)}
    second = {number for number in range(10_000) if takes_part("icu-2", f"bed-{number}", 100)}
    assert 50 < len(first & second) < 200  # a tenth of a tenth


def test_positions_never_change() -> None:
    """Published in docs/guides/deploy.md: a device and a publisher of any version agree."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "deploy.md").read_text()
    for salt, device in (("icu-1", "bed-1"), ("icu-1", "bed-2"), ("icu-2", "bed-1")):
        assert f"`{salt}`, `{device}` | `{position(salt, device):016x}`" in text


# --- on a repository ------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = make_repository(tmp_path)
    file = approve_version(made, 1).file
    rings.start(made, "icu", file, (Stage(permille=10, approval=True, soak_hours=0.0), LAST), who="ops")
    (tmp_path / "reports").mkdir()
    return made


def report(repository: Repository, number: int, **changes: Any) -> None:
    value = {**REPORT, "device": f"bed-{number}", "sequence": 1, **changes}
    write_json(repository.folder.parent / "reports" / f"{number}.json", value)


def test_a_roll_out_from_start_to_finish_is_logged(repository: Repository) -> None:
    reports = repository.folder.parent / "reports"
    step = lambda **options: rings.step(repository, "icu", reports, who="ops", **options).action  # noqa: E731
    assert step() is Action.WAIT
    report(repository, 1)
    assert step() is Action.ASK
    rings.pause(repository, "icu", paused=True, who="ops", why="night")
    assert step(approve=True) is Action.WAIT
    rings.pause(repository, "icu", paused=False, who="ops", why="day")
    assert step(approve=True) is Action.ADVANCE
    assert step() is Action.FINISH
    with pytest.raises(DeployError, match="finished"):
        step()
    lines = [json.loads(line) for line in (repository.folder / "decisions" / "icu.jsonl").read_text().splitlines()]
    assert [line["action"] for line in lines] == [
        "start",
        "wait",
        "ask",
        "pause",
        "wait",
        "resume",
        "advance",
        "finish",
    ]
    assert all(line["who"] == "ops" and line["why"] and line["at"] for line in lines)
    assert lines[0]["at"] == NOW.isoformat()


def test_an_emergency_stop_stays(repository: Repository) -> None:
    report(repository, 1, sequence=None, failed_sequence=1)
    reports = repository.folder.parent / "reports"
    assert rings.step(repository, "icu", reports, who="ops").action is Action.STOP
    with pytest.raises(DeployError, match="halted"):
        rings.step(repository, "icu", reports, who="ops")
    with pytest.raises(DeployError, match="halted"):
        rings.pause(repository, "icu", paused=False, who="ops", why="x")
