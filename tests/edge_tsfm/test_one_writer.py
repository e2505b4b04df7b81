"""Two that write into one folder: the second is refused, and nobody's files are mixed."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge_tsfm.errors import InUseError
from edge_tsfm.one_writer import LOCK_FILE, is_empty, only_writer

HOLD = """
import sys
from pathlib import Path
from edge_tsfm.one_writer import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
# Each adds one to a number a hundred times, reading and writing it as two steps.
COUNT = """
import sys
from pathlib import Path
from edge_tsfm.one_writer import only_writer
folder = Path(sys.argv[1])
for _ in range(100):
    with only_writer(folder, wait=60):
        counter = folder / "count"
        counter.write_text(str(int(counter.read_text() or 0) + 1 if counter.exists() else 1))
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_who_the_first_is_and_may_when_that_one_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    process = holder(folder)
    assert is_empty(folder)  # but for the lock
    with (
        pytest.raises(InUseError, match=f"{folder} is being written by process {process.pid} on "),
        only_writer(folder),
    ):
        pytest.fail("two writers")
    process.kill()  # leaves its file behind
    process.wait()
    assert (folder / LOCK_FILE).exists()
    with only_writer(folder):
        pass
    assert list(folder.iterdir()) == []


def test_a_folder_in_use_is_waited_for(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.stdin.close()
    with only_writer(tmp_path, wait=30):
        assert process.wait() == 0


def test_writers_that_come_and_go_never_overlap(tmp_path: Path) -> None:
    workers = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    assert (tmp_path / "count").read_text() == "400"
    assert [one.name for one in tmp_path.iterdir()] == ["count"]
