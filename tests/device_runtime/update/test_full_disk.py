"""Revocation and rollback on a full disk, and a log that holds what was committed and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_runtime.errors import StorageError
from device_runtime.update import lifecycle
from device_runtime.update.audit import read_lines
from device_runtime.update.disk import PosixDisk
from device_runtime.update.lock import locked
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.signers import sign_blob
from tests.simulators.bed import CONTEXT, Bed
from tests.simulators.publisher import adapter_blob

# --- a full disk -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a real file system of ``size`` bytes."""
    mount = shutil.which("mount")
    folder.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mount is None or os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run([str(shutil.which("umount")), str(folder)], check=True)


def fill(folder: Path) -> None:
    """Take all the space there is, to the last byte."""
    with (folder / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (4_096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


@pytest.mark.parametrize("act", ["rollback", "revoke", "both"])
def test_taking_back_works_on_a_full_disk(bed: Bed, tmp_path: Path, act: str) -> None:
    with small_disk(tmp_path / "small", 262_144) as small:
        state = bed.folder / "bed" / "state"
        shutil.copytree(state, small / "state", symlinks=True)
        shutil.rmtree(state)
        state.symlink_to(small / "state")
        bed.config = dataclasses.replace(bed.config, state=small / "state")
        host = bed.host()
        assert host.forecast(CONTEXT).adapter_version == 2
        bed.poll()  # holds room
        fill(small)
        if act in ("revoke", "both"):
            current = bed.record.current
            assert current is not None
            rings.take_back(bed.publisher, "icu", current.file, older=False, who="ops", why="complaint")
            assert bed.poll().action == "rolled back"
            assert current.file in bed.slots.floor().revoked
            assert host.forecast(CONTEXT).adapter_version == 1
        if act in ("rollback", "both"):
            fill(small)
            with locked(bed.config.state):
                bed.slots.fall_back("by hand", who="operator")
            assert host.forecast(CONTEXT).adapter_version == (None if act == "both" else 1)
        entries = list(read_lines(bed.slots.audit.export()))
        generations = [line.body["generation"] for line in entries]
        assert generations == sorted(set(generations))
        assert generations[-1] == bed.record.generation
        (small / "ballast").unlink()
        with locked(bed.config.state):  # with room again the log's file has it all
            bed.slots.stage(sign(bed, 9), entry_of(sign(bed, 9), 9), "icu", who="test")
        data = (small / "state" / "audit.log").read_bytes()
        assert [line.hash for line in read_lines(data)][: len(entries)] == [line.hash for line in entries]


def sign(bed: Bed, version: int) -> bytes:
    return sign_blob(adapter_blob(version), bed.publisher.signers("adapter"), 1)[0]


def entry_of(data: bytes, version: int) -> lifecycle.Entry:
    digest = hashlib.sha256(data).hexdigest()
    return lifecycle.Entry(file=digest, adapter=digest, version=version, sequence=version)


def test_many_changes_on_a_full_disk_are_all_accounted_for(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log takes nothing: the record carries what it can, and says how many changes it does not tell one by one."""

    def full(self: PosixDisk, name: str, data: bytes) -> None:
        raise StorageError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(PosixDisk, "append", full)
        for number in range(60):
            bed.slots.refuse(100 + number, "x" * 500, who="test")
    entries = list(read_lines(bed.slots.audit.export()))
    assert sum(int(line.body.get("stands_for", 1)) for line in entries) == bed.record.generation
    bed.slots.refuse(200, "room again", who="test")
    data = (bed.config.state / "audit.log").read_bytes()
    assert [line.hash for line in read_lines(data)][: len(entries)] == [line.hash for line in entries]


def test_a_change_that_fails_is_in_no_log_and_its_number_is_not_given_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = bed.slots
    with monkeypatch.context() as patch:
        patch.setattr(PosixDisk, "sync_folder", lambda *_: (_ for _ in ()).throw(StorageError("EIO")))
        with pytest.raises(StorageError):
            slots.fall_back("first", who="test")
    slots.fall_back("second", who="test")
    generations = [line.body["generation"] for line in read_lines(bed.slots.audit.export())]
    assert generations == sorted(set(generations))
    assert generations[-1] == bed.record.generation


def test_a_monitor_that_cannot_hold_room_installs_nothing(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise StorageError("no room")

    for path in bed.config.state.glob(".tmp-*"):
        path.unlink()
    bed.offer(3)
    with monkeypatch.context() as patch:
        patch.setattr("device_runtime.update.disk.reserve", none)
        assert (bed.poll().action, bed.versions) == ("failed", [2, 1])
    assert bed.poll().action == "trial"


def test_generations_go_on_after_a_damaged_record(bed: Bed) -> None:
    before = bed.record.generation
    (bed.config.state / "state").write_bytes(b"junk")
    assert bed.host().forecast(CONTEXT).adapter is None
    bed.slots.refuse(1, "test", who="test")
    assert bed.record.generation > before
