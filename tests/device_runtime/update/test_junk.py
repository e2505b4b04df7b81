"""Junk in the state folder: typed errors, regular files only, a log that rolls over, a cache that heals itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from device_runtime.errors import SettingsError, StorageError
from device_runtime.update.audit import read_lines
from device_runtime.update.lock import locked
from device_runtime.update.sealed import seal, unseal
from device_runtime.update.settings import read_config
from tests.simulators.bed import CONTEXT, Bed

# --- junk in the state folder ----------------------------------------------------------------------------

DEEP = b"[" * 100_000
JUNK: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"\xff\xfe junk",
    "deep": hashlib.sha256(DEEP).hexdigest().encode() + b" " + DEEP + b"\n",
    "sealed junk": hashlib.sha256(b"{").hexdigest().encode() + b" {\n",
    **{
        f"sealed {value!r}"[:40]: seal(value)
        for value in (
            None, 5, "x", [], {}, [[]], {"state": []}, {"state": "base", "current": 5}, {"log": 5},
            {"state": "confirmed", "current": {"file": 5}}, {"state": "base", "log": [{"follows": []}]},
            {"sequences": 5}, {"sequences": {"icu": 1}}, {"sequences": {"icu": ["1", 2]}},
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["state", "floor.a", "floor.b", "audit.log", "poll", "running"])
def test_junk_is_a_typed_error_and_something_forecasts(bed: Bed, name: str) -> None:
    for junk in JUNK.values():
        (bed.config.state / name).write_bytes(junk)
        assert bed.host().forecast(CONTEXT) is not None
        with contextlib.suppress(StorageError):
            bed.slots.floor()
        bed.slots.audit.export()
    assert bed.poll().action in ("nothing", "trial")
    for junk in ("deep", "no JSON"):
        (bed.config.state / name).write_bytes(JUNK[junk])
        run = [sys.executable, "-m", "device_runtime.cli", "status", "--config", str(bed.folder / "bed/device.toml")]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generation", "7"), ("generation", 7.5), ("generation", True), ("generation", -5), ("generation", 1 << 70),
        ("tries", None), ("failed_sequence", []), ("reason", 5), ("since", "x"), ("since", -1.0), ("current", "x"),
        ("candidate", [1]), ("previous", {"file": "a" * 64}), ("unknown", 1), ("state", "x"),
    ],
)  # fmt: skip
def test_wrong_types_in_a_sealed_record_mean_the_base(bed: Bed, field: str, value: Any) -> None:
    path = bed.config.state / "state"
    path.write_bytes(seal({**unseal(path.read_bytes(), "state"), field: value}))
    host = bed.host()
    assert host.forecast(CONTEXT).adapter is None
    assert "state record" in host.problem or "record:" in host.problem or "entry" in host.problem


@pytest.mark.parametrize(
    "value",
    [
        {"revoked": "abc"}, {"revoked": [5]}, {"revoked": 5}, {"time": "x"}, {"time": True}, {"time": 1e300},
        {"roles": {"root": [1]}}, {"roles": {"root": ["1", "k"]}}, {"roles": []}, {"sequences": {"icu": [1.5, "x"]}},
        {"security_minimum": {"icu": "1"}}, {"number": "1"}, {"number": -1}, {"time_keys": 5},
    ],
)  # fmt: skip
def test_wrong_types_in_both_floors_block_installs_and_not_forecasts(bed: Bed, value: dict[str, Any]) -> None:
    for name in ("floor.a", "floor.b"):
        path = bed.config.state / name
        path.write_bytes(seal({**unseal(path.read_bytes(), name), **value}))
    with pytest.raises(StorageError, match="no copy of the floor"):
        bed.slots.floor()
    assert bed.host().forecast(CONTEXT).adapter_version == 2
    assert (bed.poll().action, bed.poll().code) == ("failed", 400)


NAMES = ["state", "floor.a", "floor.b", "audit.log", "lock", "poll.lock", ".tmp-state", ".old-state", ".tmp-floor.a",
         "poll", "running", "slots", "tuf", "tuf/root.json", "tuf/timestamp.json", "tuf/root_history",
         "tuf/snapshot.json", "tuf/rollout.kept", "tuf/other"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in NAMES for kind in ("fifo", "folder", "link")),
        *((name, "loop") for name in ("state", "audit.log", "tuf", "tuf/root.json", "tuf/root_history")),
    ],
)
def test_no_file_of_the_state_folder_has_to_be_one(bed: Bed, tmp_path: Path, name: str, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = bed.config.state / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir(exist_ok=True)
        (path / "inner").write_bytes(b"x")
    else:
        path.symlink_to(victim if kind == "link" else path)
    assert bed.host().forecast(CONTEXT) is not None  # and nothing hangs
    first, second = bed.poll(), bed.poll()
    assert victim.read_bytes() == b"precious"
    assert (second.action, second.code) != ("failed", 400) or name == "slots", (first, second)
    if name != "slots":
        bed.slots.refuse(99, "test", who="test")
        assert victim.read_bytes() == b"precious"
        assert bed.record.failed_sequence == 99


@pytest.mark.parametrize("name", [".tmp-state", ".tmp-floor.a", "audit.log"])
def test_a_second_name_of_a_file_elsewhere_is_not_written_through(bed: Bed, tmp_path: Path, name: str) -> None:
    victim = bed.folder / "victim"
    victim.write_bytes(b"precious\n")
    path = bed.config.state / name
    path.unlink(missing_ok=True)
    os.link(victim, path)
    slots = bed.slots
    slots.raise_floor(slots.floor().accept_revocations("icu", ["0" * 64], 0))
    slots.refuse(99, "test", who="test")
    assert victim.read_bytes() == b"precious\n"


def test_a_log_that_outgrew_its_limit_rolls_over_and_stops_no_trial(bed: Bed) -> None:
    bed.offer(3)
    assert bed.poll().action == "trial"
    with (bed.config.state / "audit.log").open("ab") as log:
        log.write(b"x" * 3_000_000)
    assert bed.host().forecast(CONTEXT).adapter_version == 3
    assert bed.versions == [3, 2]
    data = (bed.config.state / "audit.log").read_bytes()
    assert len(data) < 100_000
    assert list(read_lines(data))[-1].body["event"] == "confirm"


def test_a_long_reason_cannot_outgrow_the_record(bed: Bed) -> None:
    with locked(bed.config.state):
        bed.slots.fall_back("ü" * 50_000, who="ü" * 50_000)
    assert bed.record.generation > 0
    assert not bed.slots.problem
    assert bed.versions == [1]


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o664, 0o662])
def test_settings_that_others_may_write_are_not_trusted(bed: Bed, mode: int) -> None:
    path = bed.folder / "bed" / "device.toml"
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"mode {mode:o}") as caught:
        read_config(path)
    assert "chmod go-w" in str(caught.value.hint)
    path.chmod(0o640)
    read_config(path)


def test_settings_of_another_user_are_not_trusted(bed: Bed) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    path = bed.folder / "bed" / "device.toml"
    os.chown(path, 12_345, -1)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        read_config(path)
