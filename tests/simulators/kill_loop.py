"""Kill a process at a random moment of a change of a device's state, again and again, on a real file system.

    python -m tests.simulators.kill_loop --kills 1000

The child installs, tries, confirms, rolls back, revokes, refuses, expires and mends without end, and says over a pipe
what it was told had succeeded; SIGKILL takes it within 80 milliseconds. What is left must be a device that starts: a
whole record no older than what was acknowledged, a floor that did not sink, an unbroken log that ends with it, and the
bytes that were installed. The page cache survives a kill, so this finds other bugs than the crash states of
``tests/device_runtime/update/test_slots_power_cut.py``, not the same.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from device_runtime.errors import DeviceRuntimeError, SelfTestError
from device_runtime.update.audit import read_lines
from device_runtime.update.disk import PosixDisk
from device_runtime.update.lifecycle import Entry, State
from device_runtime.update.lock import locked
from device_runtime.update.slots import Slots
from device_runtime.update.start import start

RING = "icu"


def blob(sequence: int) -> bytes:
    """The bytes of one adapter."""
    return f"adapter {sequence} ".encode() * 40


def entry(sequence: int) -> Entry:
    """Its entry."""
    digest = hashlib.sha256(blob(sequence)).hexdigest()
    return Entry(file=digest, adapter=digest, version=sequence, sequence=sequence)


def open_adapter(data: bytes | None) -> bytes | None:
    """Take what was installed; now and then the machine has no memory, or the adapter is bad."""
    if data is not None and random.random() < 0.05:
        raise MemoryError
    if data is not None and int(data.split()[1]) % 7 == 3:
        raise SelfTestError("off by 3")
    return data


def child(root: Path, seed: int, pipe: int) -> None:
    """Change the state until killed; write an acknowledged generation and floor number after each change."""
    random.seed(seed)
    while True:
        with locked(root, wait=5.0):
            slots = Slots(PosixDisk(root), device_id="bed")
            with contextlib.suppress(DeviceRuntimeError):
                change(slots)
            floor = slots.floor()
            os.write(pipe, f"{slots.record.generation} {floor.sequences.get(RING, (0, ''))[0]}\n".encode())


def change(slots: Slots) -> None:
    """Do the next thing."""
    record = slots.record
    newest = slots.floor().sequences.get(RING, (0, ""))[0]
    if record.state is State.STAGED:
        slots.activate(who="test")
    elif record.state is State.TRIAL:
        started = start(slots, open_adapter, ring=RING)
        if started.state is State.TRIAL:
            random.choice(
                (
                    lambda: slots.confirm("good", who="test"),
                    lambda: slots.fall_back("bad", who="test"),
                    lambda: slots.expire(-1.0),
                    lambda: slots.stage(blob(newest + 1), entry(newest + 1), RING, who="test"),
                )
            )()
    else:
        random.choice(
            (
                lambda: slots.stage(blob(newest + 1), entry(newest + 1), RING, who="test"),
                lambda: slots.stage(blob(newest + 1), entry(newest + 1), RING, who="test"),
                lambda: slots.refuse(newest, "wrong answer", who="test"),
                lambda: slots.revoke(RING, [], max(newest - 3, 0), who="test"),
                lambda: slots.fall_back("by hand", who="test"),
                lambda: slots.mend(blob(record.current.sequence), record.current) if record.current else None,
            )
        )()


def complaint(root: Path, generation: int, sequence: int) -> str:
    """What is wrong with the device that was left; empty when nothing is."""
    slots = Slots(PosixDisk(root), device_id="bed")
    if slots.problem:
        return slots.problem
    if slots.record.generation < generation:
        return f"acknowledged generation {generation} is lost: {slots.record.generation}"
    if slots.floor().sequences.get(RING, (0, ""))[0] < sequence:
        return "the floor sank"
    entries = list(read_lines(slots.audit.export()))
    generations = [line.body["generation"] for line in entries]
    if generations != sorted(set(generations)) or (generations and generations[-1] != slots.record.generation):
        return f"the log ends with {generations[-3:]}, the record has {slots.record.generation}"
    if slots.record.runs and slots.load(slots.record.runs) != blob(slots.record.runs.sequence):
        return "other bytes than were installed"
    return ""


def run(root: Path, kills: int, seed: int) -> Counter[str]:
    """Kill ``kills`` children; count what was found."""
    found: Counter[str] = Counter()
    chance = random.Random(seed)
    generation = sequence = 0
    for number in range(kills):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            try:
                child(root, seed + number, write)
            finally:
                os._exit(3)  # a child that ends by itself has found an error of its own
        os.close(write)
        time.sleep(chance.uniform(0.001, 0.08))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        with os.fdopen(read) as pipe:
            said = [line.split() for line in pipe.read().splitlines(keepends=True) if line.endswith("\n")]
        if said:
            generation, sequence = max(generation, int(said[-1][0])), max(sequence, int(said[-1][1]))
        problem = complaint(root, generation, sequence) if os.WIFSIGNALED(status) else "the child ended by itself"
        found[problem or "good"] += 1
    found["changes acknowledged"] = generation
    return found


def main() -> int:
    """Run and print what was found; exit status 1 when anything was bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="Where, for another file system than the temporary folder's.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = run(Path(folder) / "state", options.kills, options.seed)
    bad = {problem: count for problem, count in found.items() if problem not in ("good", "changes acknowledged")}
    print(f"{options.kills} kills, {found['changes acknowledged']} changes: {found['good']} good, {bad or 'none bad'}")  # noqa: T201
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
