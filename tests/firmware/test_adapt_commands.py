"""`edge-tsfm-device adapt` where etsa-service learns: what it says and does after the service's decisions."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_runtime.update.audit import read_lines
from tests.simulators.service_bed import ServiceBed, stays_of

DEVICE = [sys.executable, "-W", "ignore", "-m", "device_runtime.cli", "adapt"]


def made(tmp_path: Path, built: Path, library: Path, more: str = "") -> Iterator[ServiceBed]:
    bed = ServiceBed(tmp_path / "bed", built / "service" / "etsa-service", library, more=more)
    yield bed
    if bed.process is not None:
        bed.process.kill()
        bed.process.communicate()


@pytest.fixture
def bed(tmp_path: Path, built: Path, library: Path) -> Iterator[ServiceBed]:
    yield from made(tmp_path, built, library)


@pytest.fixture
def by_hand(tmp_path: Path, built: Path, library: Path) -> Iterator[ServiceBed]:
    yield from made(tmp_path, built, library, more='promote = "hand"\n')


def adapt(bed: ServiceBed, verb: str, *more: object, good: bool = True) -> str:
    """Run a command; return what it prints, on both streams."""
    command = [*DEVICE, verb, "--config", bed.settings, *more]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == good, done.stdout + done.stderr
    return done.stdout if good else done.stderr


def test_status_log_and_export_after_a_promotion(bed: ServiceBed, tmp_path: Path) -> None:
    asked = ("--health", bed.health)
    before = json.loads(adapt(bed, "status", *asked, "--json"))
    assert before["learnt"] is None
    assert "no etsa-service that learns and runs now has written" in before["problem"]
    bed.start()
    assert bed.learn(iter(stays_of(80)))
    waiting = json.loads(adapt(bed, "status", *asked, "--json"))
    assert waiting["own"] is None
    assert "decisions of the service that wait for the hand-over: 1" in waiting["problem"]
    bed.hand_over()
    bed.stay(stays_of(1, seed=9)[0])
    counted = bed.wait(lambda said: said["decisions"] == 0)["learnt"]
    own = bed.slots.record.own
    assert own is not None

    said = json.loads(adapt(bed, "status", *asked, "--json"))
    assert said["own"] == {"adapter": own.adapter, "generation": own.sequence}
    assert (said["mode"], said["problem"], said["asked"]) == ("active", "", None)
    assert said["learnt"]["state"] == "promoted"
    for name in ("stays", "steps", "windows"):  # it goes on
        assert said["learnt"][name] >= counted[name] > 0, name
    assert said["learnt"]["values"]["values"] >= counted["values"][0] > 500
    lines = adapt(bed, "status", *asked)
    assert f"own adapter {own.adapter[:16]}, generation {own.sequence}" in lines
    assert re.search(r"^learnt    \d+ steps from \d+ stays, \d+ windows held$", lines, flags=re.MULTILINE)

    entries = [json.loads(line) for line in adapt(bed, "log", "--json").splitlines()]
    assert [one["event"] for one in entries] == ["envelope", "promote"]
    assert entries[-1]["learnt"]["loss"]["candidate"] < entries[-1]["learnt"]["loss"]["frozen"]

    out = tmp_path / "own.etsa"
    adapt(bed, "export", "--out", out)
    assert hashlib.sha256(out.read_bytes()).hexdigest() == own.adapter
    statement = json.loads(out.with_name("own.etsa.json").read_text())
    assert statement["predicate"]["evidence"] == entries[-1]["learnt"]
    assert statement["predicate"]["who"] == "device"

    assert 'promote is "device"' in adapt(bed, "promote", "--reason", "now", *asked, good=False)
    bed.end()
    assert "no etsa-service" in adapt(bed, "promote", "--reason", "now", *asked, good=False)


def test_by_hand_the_service_waits_until_a_person_asks(by_hand: ServiceBed) -> None:
    bed, promote = by_hand, ("promote", "--who", "nurse", "--reason", "looks right", "--health", by_hand.health)
    bed.start()
    assert "the evidence is not enough" in adapt(bed, *promote, good=False)
    assert not bed.learn(iter(stays_of(40)), most=32)
    assert bed.wait(lambda said: said["learnt"]["verdict"] == "promote")["own"] is False
    assert "decision-1" not in [path.name for path in bed.adapt.iterdir()]

    windows = bed.wait(lambda said: said)["learnt"]["windows"]
    assert "--health" in adapt(bed, "promote", "--reason", "without", good=False)
    assert "after the next hand-over" in adapt(bed, *promote)
    assert json.loads(adapt(bed, "status", "--json"))["asked"] == {"who": "nurse", "reason": "looks right"}
    assert not bed.said()["own"]  # type: ignore[index]
    bed.hand_over()
    bed.reload()
    assert bed.wait(lambda said: said["own"])["learnt"]["windows"] >= windows > 30  # nothing in memory is lost by it
    assert "promoted: looks right" in bed.hand_over()
    last = list(read_lines(bed.slots.audit.export()))[-1].body
    assert (last["event"], last["who"], last["reason"]) == ("promote", "nurse", "looks right")

    # one wish, one promotion
    assert json.loads(adapt(bed, "status", "--json"))["asked"] is None
    assert "by_device 0" in (bed.adapt / "rules").read_text()
    bed.reload()
    bed.stay(stays_of(1, seed=9)[0])
    own = bed.slots.record.own
    assert own is not None
    assert {one.get("own") for one in bed.made[-40:]} == {own.adapter}


def test_a_promotion_that_nobody_asked_for_is_not_taken(by_hand: ServiceBed) -> None:
    """Whoever writes to the folder cannot promote in a person's place, nor with a wish of yesterday."""
    bed = by_hand
    bed.start()
    assert not bed.learn(iter(stays_of(40)), most=32)
    bed.wait(lambda said: said["learnt"]["verdict"] == "promote")
    adapt(bed, "promote", "--reason", "now", "--health", bed.health)
    bed.hand_over()
    (bed.folder / "state" / "asked").write_bytes(b"damaged")
    bed.reload()
    bed.wait(lambda said: said["own"])
    assert "nobody has asked for it" in bed.hand_over()
    assert bed.slots.record.own is None
    assert "promote" not in bed.events
    bed.reload()
    bed.wait(lambda said: not said["own"])
