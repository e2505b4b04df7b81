"""What was checked is what runs; an old copy of the state revives nothing; trials end."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
import time
from pathlib import Path

import pytest

from device_runtime.errors import DeviceRuntimeError, RollbackError, SelfTestError
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.update.floor import Floor, Role
from device_runtime.update.health import HealthRules
from device_runtime.update.lifecycle import State
from device_runtime.update.lock import locked
from device_runtime.update.slots import slots_of
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from tests.simulators.bed import CONTEXT, Bed, swap_tunables
from tests.simulators.publisher import NOW

# --- what was checked is what runs -----------------------------------------------------------------------


def test_a_base_replaced_under_a_running_host_is_not_what_the_next_session_runs(bed: Bed) -> None:
    host = bed.host()
    before = host.forecast(CONTEXT).quantiles
    swap_tunables(bed.config.bundle)
    with locked(bed.config.state):
        bed.slots.refuse(99, "a change", who="test")  # the host opens everything anew
    after = host.forecast(CONTEXT)
    assert (after.adapter_version, host.problem) == (2, "")
    assert (after.quantiles == before).all()


def test_a_base_written_over_in_place_is_noticed_and_costs_no_adapter(bed: Bed) -> None:
    host = bed.host()
    host.forecast(CONTEXT)
    swap_tunables(bed.config.bundle, in_place=True)
    with locked(bed.config.state):
        bed.slots.refuse(99, "a change", who="test")
    with pytest.raises(DeviceRuntimeError, match="the manifest pins"):
        host.forecast(CONTEXT)
    assert bed.versions == [2, 1]


def test_what_runs_is_asked_for_its_known_answer_every_hour(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    real = Forecaster.self_test
    host = bed.host()
    first = host.started.running

    def ask(forecaster: Forecaster) -> float | None:
        asked.append(bed.seconds)
        if forecaster is first and bed.seconds > 7_000:
            raise SelfTestError("known-answer test: off by 3")  # memory that changed under it
        return real(forecaster)

    monkeypatch.setattr(Forecaster, "self_test", ask)
    for bed.seconds in range(0, 7_000, 100):
        assert host.forecast(CONTEXT).adapter_version == 2
    assert len(asked) == 1
    assert host.started.running is first
    bed.seconds = 7_300
    assert host.forecast(CONTEXT).adapter_version == 2
    assert host.started.running is not first
    assert (host.problem, bed.versions) == ("", [2, 1])


@pytest.mark.parametrize("in_place", [False, True])
def test_a_base_alone_is_checked_the_same(bed: Bed, in_place: bool) -> None:
    from device_runtime.forecast.bundle import Bundle

    bundle = Bundle.open(bed.config.bundle)
    before = Forecaster.open(bundle).forecast(CONTEXT).quantiles
    swap_tunables(bed.config.bundle, in_place=in_place)
    if in_place:
        with pytest.raises(DeviceRuntimeError, match="the manifest pins"):
            Forecaster.open(bundle)
    else:
        assert (Forecaster.open(bundle).forecast(CONTEXT).quantiles == before).all()


# --- an old copy of the state ----------------------------------------------------------------------------


def test_an_old_copy_of_the_state_revives_nothing_where_there_is_a_counter(bed: Bed, tmp_path: Path) -> None:
    bed.config = dataclasses.replace(bed.config, counter=str(tmp_path / "counter"))
    current = bed.record.current
    assert current is not None
    bed.slots.raise_floor(bed.slots.floor().accept_revocations("icu", ["0" * 64], 0))  # the counter begins
    shutil.copytree(bed.config.state, tmp_path / "old", symlinks=True)
    rings.take_back(bed.publisher, "icu", current.file, older=False, who="ops", why="test")
    assert bed.poll().action == "rolled back"
    shutil.rmtree(bed.config.state)
    shutil.copytree(tmp_path / "old", bed.config.state, symlinks=True)
    host = bed.host()
    assert host.forecast(CONTEXT).adapter is None
    assert "old copy" in host.problem
    assert bed.poll().action == "rolled back"  # the poll reads the revocation again
    bed.seconds = 5.0
    assert host.forecast(CONTEXT).adapter_version == 1


@pytest.mark.parametrize("junk", [b"x", b"", b"9" * 100])
def test_a_counter_that_cannot_be_read_means_the_base_and_is_said(bed: Bed, tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "counter").write_bytes(junk)
    bed.config = dataclasses.replace(bed.config, counter=str(tmp_path / "counter"))
    host = bed.host()
    assert host.forecast(CONTEXT).adapter is None
    assert "it cannot be told whether" in host.problem
    assert bed.versions == [2, 1]


# --- trials end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [True, False])
def test_a_newer_sequence_supersedes_a_trial_that_nobody_ends(bed: Bed, now: bool) -> None:
    bed.offer(3)
    assert bed.poll().action == "trial"
    bed.offer(4)
    outcome = bed.poll(activate_now=now)
    assert (outcome.action, outcome.sequence) == ("trial" if now else "staged", 4)
    assert bed.versions == [4, 2, 1]
    assert bed.record.failed_sequence == -1


def test_a_newer_one_that_is_bad_does_not_end_a_trial(bed: Bed) -> None:
    bed.offer(3)
    bed.poll()
    bed.offer(4)

    def off(_: bytes | None) -> object:
        raise SelfTestError("off by 3")

    good, bed.installer = bed.installer, dataclasses.replace(bed.installer, self_test=off)
    assert bed.poll().code == 320
    bed.installer = good
    assert (bed.record.state, bed.versions[0]) == (State.TRIAL, 3)


def test_a_trial_that_nobody_ends_expires_and_is_not_held_against_the_adapter(bed: Bed) -> None:
    bed.offer(3)
    bed.poll()
    bed.publisher = Repository(bed.folder / "repository", bed.folder / "keys", now=NOW + dt.timedelta(days=13))
    rings.halt(bed.publisher, "icu", who="ops", why="test")
    bed.now += 13 * 86_400
    assert bed.poll().reason == "a trial is running"
    bed.now += 2 * 86_400
    bed.poll()
    assert (bed.record.state, bed.versions, bed.record.failed_sequence) == (State.CONFIRMED, [2, 1], -1)
    assert "nobody ended" in bed.record.reason


def test_a_trial_expires_at_a_start_too(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.offer(3)
    bed.poll()
    bed.config = dataclasses.replace(bed.config, health=HealthRules(seconds=1e9))
    monkeypatch.setattr(time, "time", lambda: bed.now)
    assert bed.host().forecast(CONTEXT).adapter_version == 3
    bed.now += 15 * 86_400
    monkeypatch.setattr("device_runtime.update.slots.slots_of", lambda config: slots_of(config, clock=lambda: bed.now))
    assert bed.host().forecast(CONTEXT).adapter_version == 2
    assert (bed.record.state, bed.record.failed_sequence) == (State.CONFIRMED, -1)


# --- floors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newer", ["floor.a", "floor.b"])
def test_of_two_whole_floors_the_higher_counts(bed: Bed, newer: str) -> None:
    """A copy from before, whole, beside the one of now: whichever it is, nothing sinks."""
    older = "floor.b" if newer == "floor.a" else "floor.a"
    kept = (bed.config.state / older).read_bytes()
    third = bed.offer(3)
    bed.poll()
    rings.take_back(bed.publisher, "icu", third, older=False, who="ops", why="test")
    bed.poll()
    want = bed.slots.floor()
    (bed.config.state / older).write_bytes(kept)
    got = bed.slots.floor()
    assert (got.sequences, got.revoked, got.roles, got.time) == (want.sequences, want.revoked, want.roles, want.time)
    with pytest.raises(RollbackError):
        got.check_sequence("icu", 2, "0" * 64)


def test_floors_that_are_each_higher_in_something_give_the_higher_of_each() -> None:
    one = Floor(sequences={"icu": (3, "a")}, revoked=("x",), roles={"root": Role(version=2, keys="k")}, time=5.0)
    other = Floor(sequences={"icu": (2, "b")}, revoked=("y",), roles={"root": Role(version=9, keys="k")}, time=1.0)
    for got in (one.highest(other), other.highest(one)):
        assert (got.sequences["icu"], set(got.revoked), got.roles["root"].version) == ((3, "a"), {"x", "y"}, 9)
        assert got.time == 5.0
