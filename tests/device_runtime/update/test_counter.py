"""The counters that an old copy of the state folder is held against; the TPM's with swtpm, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_runtime.errors import SettingsError, StorageError
from device_runtime.update.counter import FileCounter, NoCounter, TpmCounter, check, counter_for

INDEX = "0x1500016"
PROGRAMS = ("swtpm", "tpm2_startup", "tpm2_nvdefine", "tpm2_nvincrement", "tpm2_nvread")


def test_a_file_only_rises(tmp_path: Path) -> None:
    counter = FileCounter(tmp_path / "counter")
    assert counter.read() == 0
    for number, kept in ((3, 3), (2, 3), (3, 3), (10, 10)):
        counter.raise_to(number)
        assert counter.read() == kept
    check(counter, 10)
    check(counter, 11)
    with pytest.raises(StorageError, match="old copy"):
        check(counter, 9)


def test_what_is_no_number_is_an_error_and_not_zero(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    for data in (b"", b"x", b"-1", b"1.5", b"9" * 65, b"\xff"):
        path.write_bytes(data)
        with pytest.raises(StorageError):
            FileCounter(path).read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StorageError, match="not a regular file"):
        FileCounter(path).read()


def test_settings_name_a_counter(tmp_path: Path) -> None:
    assert isinstance(counter_for("", tmp_path), NoCounter)
    named = counter_for("number", tmp_path)
    assert isinstance(named, FileCounter)
    assert named.path == tmp_path / "number"
    assert isinstance(counter_for(f"tpm2:{INDEX}", tmp_path), TpmCounter)
    with pytest.raises(SettingsError, match="NV index"):
        counter_for("tpm2:x", tmp_path)


def test_a_monitor_without_tpm_tools_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StorageError, match="tpm2_nvread"):
        TpmCounter(INDEX).read()


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TpmCounter]:
    """A TPM in software with one NV counter, as whoever provisions a monitor makes it."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with tempfile.TemporaryDirectory() as short:  # a socket's path has at most 107 bytes
        sockets = Path(short) / "tpm"
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={tmp_path}", "--flags", "not-need-init"]
        command += ["--server", f"type=unixio,path={sockets}", "--ctrl", f"type=unixio,path={sockets}.ctrl"]
        running = subprocess.Popen(command)
        try:
            for _ in range(1_500):
                if sockets.with_suffix(".ctrl").exists() or running.poll() is not None:
                    break
                time.sleep(0.02)
            monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:path={sockets}")
            attributes = "ownerread|ownerwrite|authread|authwrite|nt=counter"
            for made in (
                ["tpm2_startup", "-c"],
                ["tpm2_nvdefine", INDEX, "-C", "o", "-a", attributes],
                ["tpm2_nvincrement", INDEX],
            ):
                subprocess.run(made, check=True, capture_output=True)
            yield TpmCounter(INDEX)
        finally:
            running.terminate()
            running.wait(10)


def test_a_tpm_counts(tpm: TpmCounter) -> None:
    first = tpm.read()
    assert first > 0
    tpm.raise_to(first + 3)
    assert tpm.read() == first + 3
    tpm.raise_to(first)
    assert tpm.read() == first + 3
    with pytest.raises(StorageError, match="old copy"):
        check(tpm, first + 2)
    with pytest.raises(StorageError, match="steps behind"):
        tpm.raise_to(first + 5_000)


def test_a_tpm_without_the_counter_is_an_error(tpm: TpmCounter) -> None:
    with pytest.raises(StorageError, match="tpm2_nvread"):
        TpmCounter("0x1500017").read()
