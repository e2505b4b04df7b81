"""A stream that is told to end finishes its line, writes its figures and ends as the signal says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_runtime.cli.ending import Ending
from device_runtime.update.disk import PosixDisk
from device_runtime.update.field_store import QUALITY
from device_runtime.update.sealed import unseal

HOUR = 3_600_000
STEPS = 60
ENDS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Signals do what they do by default, also where whoever runs the tests has them ignored."""
    default = dict.fromkeys(ENDS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {one: signal.signal(one, action) for one, action in default.items()}
    yield
    for one, action in before.items():
        signal.signal(one, action)


def monitor(folder: Path, bundle: Path) -> Path:
    config = folder / "device.toml"
    config.write_text(
        f'device_id = "bed"\nring = "icu"\nsignal = "MAP"\ninterval = "1h"\nbundle = "{bundle.resolve()}"\n'
        f'state = "state"\ntrusted_keys = ["{"00" * 32}"]\n'
    )
    return config


def stream(config: Path) -> subprocess.Popen[str]:
    """Start a stream and let it answer `STEPS` samples; it waits for the next one."""
    command = [sys.executable, "-m", "device_runtime.cli", "stream", "--config", str(config), "--signal", "MAP"]
    process = subprocess.Popen(
        [*command, "--interval", "1h", "--context-length", "16", "--min-observed", "1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(f"MAP,{step * HOUR},{80 + step % 5}\n" for step in range(STEPS)))
    process.stdin.flush()
    for _ in range(STEPS):
        assert "quantiles" in json.loads(process.stdout.readline())
    return process


def scored(config: Path) -> float:
    """Return how many steps the quality file has; 0 without one."""
    data = PosixDisk(config.parent / "state").read(QUALITY, 1 << 20)
    return 0.0 if data is None else float(unseal(data, QUALITY)["signals"]["MAP"][0]["total"][1])


@pytest.mark.parametrize("number", ENDS, ids=[one.name for one in ENDS])
def test_a_stream_that_is_told_to_end_writes_its_figures(
    dummy_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    config = monitor(tmp_path, dummy_bundle)
    process = stream(config)
    assert scored(config) == 0  # nothing was written yet: it is what a kill would cost
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -number  # a shell says 128 + number
    assert "Traceback" not in said
    assert "counts" in json.loads(said.splitlines()[-1])
    assert scored(config) == 6 * (STEPS - 1 - 6 - 2)


def test_a_stream_whose_input_ends_says_success(dummy_bundle: Path, tmp_path: Path) -> None:
    config = monitor(tmp_path, dummy_bundle)
    process = stream(config)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert scored(config) == 6 * (STEPS - 1 - 6 - 2)


def ask(number: int) -> Iterator[int]:
    """Give one line, then one during which a signal comes, and never end."""
    yield 1
    signal.raise_signal(number)
    while True:
        yield 2


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_interrupts_a_wait_and_never_a_line(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    seen: list[int] = []
    with Ending() as ending:
        seen = list(ending.lines(ask(number)))
    assert (seen, ending.number) == ([1], number)
    seen = []
    with Ending() as ending:
        for line in ending.lines(iter(range(100))):
            if line == 3:
                signal.raise_signal(number)
            seen.append(line)
    assert (seen, ending.number) == ([0, 1, 2, 3], number)
    assert signal.getsignal(number) is before


def test_a_second_signal_finds_its_default_action() -> None:
    with Ending():
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Ending() as ending:
            signal.raise_signal(signal.SIGHUP)
            assert list(ending.lines(iter([1]))) == [1]
        assert ending.number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_of_the_main_thread_nothing_is_taken_over() -> None:
    found: list[list[int]] = []

    def run() -> None:
        with Ending() as ending:
            found.append(list(ending.lines(iter([1, 2]))))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [[1, 2]]
