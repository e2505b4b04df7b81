"""Read-only and full disks, links, torn and endless lines, on the device itself."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from device_runtime.cli import cli as device_cli
from device_runtime.errors import ChecksumError, StorageError
from device_runtime.update.audit import LOG, read_lines
from device_runtime.update.disk import PosixDisk
from device_runtime.update.health import HealthRules
from device_runtime.update.host import Host
from device_runtime.update.lifecycle import State
from device_runtime.update.lock import locked
from device_runtime.update.slots import Slots
from tests.simulators.server import CONTEXT, Bed


def read_only(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Answer every write below ``folder`` as a disk that was remounted read-only does."""
    real = os.open

    def refusing(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if str(path).startswith(str(folder)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **options)

    patch.setattr(os, "open", refusing)


def test_a_read_only_disk_forecasts_with_what_was_confirmed(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.offer(1)
    bed.poll()
    bed.confirm()
    read_only(monkeypatch, bed.config.state)
    host = Host(bed.config, bed.installer.open)
    assert host.forecast(CONTEXT).adapter_version == 1
    assert bed.poll().action == "failed"


def test_a_disk_that_turns_read_only_during_a_trial_keeps_nothing_bad(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.offer(1)
    bed.poll()
    rules = HealthRules(seconds=0.0, min_forecasts=1, latency_budget=1e-9)  # every forecast is too late
    host = Host(dataclasses.replace(bed.config, health=rules), bed.installer.open)
    read_only(monkeypatch, bed.config.state)
    assert host.forecast(CONTEXT).adapter_version == 1  # judged when it is there, not before
    assert host.forecast(CONTEXT).adapter is None
    assert bed.slots.record.state is State.TRIAL  # nothing could be written


def test_a_trial_on_a_read_only_disk_is_confirmed_when_it_can_be(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.offer(1)
    bed.poll()
    rules = HealthRules(seconds=0.0, min_forecasts=1, latency_budget=60.0)
    host = Host(dataclasses.replace(bed.config, health=rules), bed.installer.open)
    with monkeypatch.context() as patch:
        read_only(patch, bed.config.state)
        assert host.forecast(CONTEXT).adapter_version == 1
    assert host.forecast(CONTEXT).adapter_version == 1
    assert bed.slots.record.state is State.CONFIRMED


def test_a_lock_that_is_a_link_is_not_followed(bed: Bed) -> None:
    bed.config.state.mkdir()
    (bed.config.state / "lock").symlink_to(bed.folder / "elsewhere")
    with locked(bed.config.state):
        pass
    assert not (bed.config.state / "lock").is_symlink()
    assert not (bed.folder / "elsewhere").exists()


@pytest.mark.parametrize("letter", ["a", "ä", "😀", "\x00"])
def test_long_reasons_are_cut_and_break_nothing(bed: Bed, letter: str) -> None:
    bed.offer(1)
    bed.poll()
    slots = bed.slots
    slots.fall_back(letter * 5_000, who=letter * 5_000)
    lines = list(read_lines(slots.audit.export()))
    assert lines[-1].body["reason"].startswith(letter)


def test_a_log_of_endless_brackets_is_a_broken_chain() -> None:
    with pytest.raises(ChecksumError):
        list(read_lines(b"0" * 64 + b" " + b"[" * 100_000 + b"\n"))


def test_a_line_torn_by_a_full_disk_is_not_continued(bed: Bed) -> None:
    bed.config.state.mkdir()

    class Filling(PosixDisk):
        full = False

        def append(self, name: str, data: bytes) -> None:
            if self.full:
                super().append(name, data[:20])
                raise StorageError("No space left on device")
            super().append(name, data)

    disk = Filling(bed.config.state)
    slots = Slots(disk, device_id="bed")
    slots.refuse(1, "one", who="test")
    disk.full = True
    slots.refuse(2, "two", who="test")
    assert [line.body["reason"] for line in read_lines(slots.audit.export())] == ["one", "two"]
    disk.full = False
    slots.refuse(3, "three", who="test")
    assert [line.body["reason"] for line in read_lines((bed.config.state / LOG).read_bytes())] == [
        "one",
        "two",
        "three",
    ]


def test_a_log_without_its_beginning_says_so(bed: Bed) -> None:
    bed.offer(1)
    bed.poll()
    bed.confirm()
    log = bed.folder / "log"
    whole = bed.slots.audit.export()
    for data, words in ((whole, "unbroken"), (whole.split(b"\n", 1)[1], "older entries are not in this log")):
        log.write_bytes(data)
        result = CliRunner().invoke(device_cli, ["audit", "verify", str(log)])
        assert words in result.output
    log.write_bytes(whole[: whole[:-1].rindex(b"\n") + 1])
    result = CliRunner().invoke(device_cli, ["audit", "verify", str(log), "--head", bed.slots.audit.head])
    assert isinstance(result.exception, ChecksumError)
