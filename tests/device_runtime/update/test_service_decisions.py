"""What lies in the folder that a learning service shares with its monitor: whatever it is, it stops no hand-over."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_runtime.update import service_adapt

LEARNT = {
    "state": "shadow", "verdict": "promote", "stays": 9, "stays_judged": 9, "steps": 9, "windows": 9, "demotions": 0,
    "refused": 0, "spoilt": 0, "log_evidence": 1.0, "evidence_wanted": 20.0, "log_reverse_evidence": 0.0,
    "lost": [3.0, 3.0, 2.0], "values": [99, 1, 1, 1], "shift_rms": 0.1, "missed": 0,
}  # fmt: skip
NOTHING_OWN: Any = SimpleNamespace(record=SimpleNamespace(own=None))


def decision(**changed: Any) -> bytes:
    """A demotion of what does not run, which changes nothing."""
    learnt = LEARNT | changed.pop("learnt", {})
    head = {"adapter": "ab", "blob": 0, "event": "demote", "learnt": learnt, "over": "", "reason": "worse"} | changed
    body = json.dumps(head).encode() + b"\n"
    return hashlib.sha256(body).hexdigest().encode() + b" " + body


def test_one_that_changes_nothing_is_taken(tmp_path: Path) -> None:
    (tmp_path / "decision-1").write_bytes(decision())
    assert service_adapt.collect(NOTHING_OWN, NOTHING_OWN, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"", b"x", decision()[:-1],
        decision(learnt={"log_evidence": 10**400}), decision(learnt={"lost": [1, 10**400, 1]}),
        decision(learnt={"log_evidence": float("nan")}), decision(learnt={"log_evidence": float("inf")}),
        decision(learnt={"lost": [1.0]}), decision(learnt={"state": "x" * 1_000}), decision(learnt={"stays": {"a": 1}}),
        decision(learnt={"values": 1}), decision(reason="x" * 10_000), decision(event="other"), b"x" * 2_000_000,
    ],
)  # fmt: skip
def test_one_that_is_none_is_said_and_removed_and_the_next_is_taken(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "decision-1").write_bytes(content)
    (tmp_path / "decision-2").write_bytes(decision())
    (said,) = service_adapt.collect(NOTHING_OWN, NOTHING_OWN, tmp_path)
    assert said.startswith("decision-1 is not taken: ")
    assert len(said) < 500
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("decision-1.bak", lambda path: path.write_bytes(decision())),
        ("decision-x", lambda path: path.write_bytes(decision())),
        ("decision-01", lambda path: path.write_bytes(decision())),
        ("decision-1", Path.mkdir),
        ("decision-1", os.mkfifo),
        ("decision-1", lambda path: path.symlink_to("/etc/hostname")),
    ],
)
def test_what_the_service_does_not_write_is_left_alone(name: str, make: Callable[[Path], Any], tmp_path: Path) -> None:
    make(tmp_path / name)
    (tmp_path / "decision-2").write_bytes(decision())
    (said,) = service_adapt.collect(NOTHING_OWN, NOTHING_OWN, tmp_path)
    assert "left alone" in said
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_the_ninth_comes_before_the_tenth(tmp_path: Path) -> None:
    for number in (10, 9):
        (tmp_path / f"decision-{number}").write_bytes(decision(event=f"no {number}"))
    said = service_adapt.collect(NOTHING_OWN, NOTHING_OWN, tmp_path)
    assert [one.split()[0] for one in said] == ["decision-9", "decision-10"]


@pytest.mark.parametrize(
    "make", [lambda path: path.write_bytes(b"x" * 2_000_000), lambda path: path.symlink_to("/none")]
)
def test_rules_that_are_somebody_elses_are_replaced(make: Callable[[Path], Any], tmp_path: Path) -> None:
    make(tmp_path / "rules")
    service_adapt._replace(tmp_path / "rules", b"ours")
    assert (tmp_path / "rules").read_bytes() == b"ours"
    assert not (tmp_path / "rules").is_symlink()
