"""The service sample as a product would run it: swaps, clocks, feeds and systemd."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from device_runtime.errors import StorageError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.blob import encode
from device_runtime.update.service_health import read_health

from .conftest import run
from .dummy import CONTEXT, make_adapter
from .samples import same
from .service import Service


def test_service_swaps_without_dropping_a_forecast(built: Path, library: Path, bundle: Bundle, files: Path) -> None:
    running = files / "running.etsa"
    running.write_bytes(encode(make_adapter(bundle, version=3)))
    service = Service(built / "service" / "etsa-service", library, bundle, running, "-")
    service.log("channel 0 runs")
    for data, log in (
        (encode(make_adapter(bundle, seed=2, version=4)), "channel 0 runs"),
        (b"ETSA" + bytes(100), "channel 0 keeps what runs: [102]"),
        (encode(make_adapter(bundle, seed=2, version=5))[:-1], "channel 0 keeps what runs: [102]"),
    ):
        for _ in range(30):
            service.push(channels=2)
        service.forecasts(2 * (29 if service.step == 30 else 30))
        # replaced as an updater does: a new file under the old name
        (files / "next").write_bytes(data)
        (files / "next").replace(running)
        service.process.send_signal(signal.SIGHUP)
        for _ in range(20):  # values keep coming while it is verified and merged
            service.push(channels=2)
        service.forecasts(40)
        service.log(log)
    service.push(channels=2)
    rest, _ = service.finish()
    assert [f["adapter_version"] for f in rest if f["channel"] == 0] == [4]
    assert [f["adapter_version"] for f in rest if f["channel"] == 1] == [0]
    assert {f["code"] for f in rest} == {0}


def test_service_goes_back_to_the_base_with_an_empty_file(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    running = files / "map.etsa"
    service = Service(built / "service" / "etsa-service", library, bundle, running)
    service.log("channel 0 runs")
    (files / "next").write_bytes(b"")
    (files / "next").replace(running)
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 runs the base alone")
    service.push()
    service.push()
    rest, _ = service.finish()
    assert [(f["code"], f["adapter_version"]) for f in rest] == [(0, 0)]


def test_service_refuses_a_swap_on_a_base_that_was_replaced(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    """Even by equal bytes: ONNX Runtime opens the weights by their name, and what it opens must be what was checked."""
    copy = files / "bundle"
    shutil.copytree(bundle.path, copy)
    running = files / "map.etsa"
    service = Service(built / "service" / "etsa-service", library, Bundle.open(copy), running)
    service.log("channel 0 runs")
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 runs")
    shutil.copy(bundle.path / "tunable.safetensors", files / "same")
    (files / "same").replace(copy / "tunable.safetensors")
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 keeps what runs: [300] BaseMismatchError")
    service.push()
    service.push()
    rest, _ = service.finish()
    assert [(f["code"], f["adapter_version"]) for f in rest] == [(0, 3)]


def test_service_reads_datagrams_with_and_without_a_newline(built: Path, library: Path, bundle: Bundle) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    command = [built / "service" / "etsa-service", "--library", library, "--interval", "1s", bundle.path]
    with ours, theirs:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for data in (
            b"0 0 70 0",
            b"0 1000 71 0\r\n0 2000 72 0",
            b"0 3000 73 0\n",
            b"0 4000 74 0\0",
            b"9 1 1 0",
            b"0 5000 75 0\n" * 400,
            b"0 6000 75 0\n" + b"\n" * 4_083,  # as long as one may be
        ):
            ours.send(data)
        assert process.stdout is not None
        forecasts = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    # The zero byte ends the text of its line, as anywhere in C; nothing behind it is lost.
    assert [f["t_ms"] for f in forecasts] == [1000, 2000, 3000, 4000, 5000]
    assert err.count("a line that is not CHANNEL") == 1
    assert err.count("a datagram of 4800 bytes was refused, want at most 4095\n") == 1


def test_service_cleans_up_after_a_power_cut(built: Path, library: Path, bundle: Bundle, tmp_path: Path) -> None:
    """Its own unfinished files, and nobody else's."""
    ours = [tmp_path / "health.tmp", tmp_path / "health", tmp_path / ".tmp-quality"]
    others = [tmp_path / "health.tmp.tmp", tmp_path / ".tmp-learner", tmp_path / "quality.tmp"]
    for path in (*ours, *others):
        path.write_bytes(b"half a")
    figures = ["--quality", "1", "--quality-file", tmp_path / "quality", "--health-file", tmp_path / "health"]
    service = Service(built / "service" / "etsa-service", library, bundle, *figures)
    service.push()
    service.push()
    service.forecasts(1)
    assert not any(path.exists() and path.read_bytes() == b"half a" for path in ours)
    service.finish()
    assert {path.name for path in tmp_path.iterdir()} == {"health", "quality", *(path.name for path in others)}


def test_the_health_file_counts_only_while_its_process_runs(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = tmp_path / "health"
    service = Service(built / "service" / "etsa-service", library, bundle, "-", "--health-file", health)
    service.push()
    service.push()
    service.forecasts(1)
    until = time.monotonic() + 60
    while not health.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert read_health(health) is not None
    value = json.loads(health.read_bytes())
    for other in ({"pid": os.getpid()}, {"started": value["started"] + 1}, {"boot": "0" * 32}, {"pid": 2**22 + 1}):
        (tmp_path / "other").write_text(json.dumps({**value, **other}))
        assert read_health(tmp_path / "other") is None, other
    service.process.kill()
    service.process.communicate()
    assert health.exists()
    assert read_health(health) is None  # what is left of it describes nobody
    monkeypatch.setattr("device_runtime.update.service_health.BOOT_ID", tmp_path / "none")
    with pytest.raises(StorageError):
        read_health(health)


def test_service_fails_when_nobody_reads_its_forecasts(built: Path, library: Path, bundle: Bundle) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle)
    assert service.process.stdout is not None
    service.process.stdout.close()
    service.push()
    service.push()
    assert service.process.wait(timeout=60) == 1
    service.log("forecasts could not be written")


@pytest.mark.parametrize(
    "line", ["0 1 2 0x", "0 1 2", "-1 1 2 0", "0 1 2 0 0", "0 99999999999999999999 2 0", "0 x 2 0"]
)
def test_service_takes_whole_lines_only(built: Path, library: Path, bundle: Bundle, line: str) -> None:
    done = run(built / "service" / "etsa-service", "--library", library, bundle.path, stdin=line + "\n")
    assert done.returncode == 0, done.stderr
    assert "a line that is not CHANNEL" in done.stderr
    assert done.stdout == ""


def test_service_forecasts_every_step_once_and_as_python_does(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle, files / "map.etsa")
    service.log("channel 0 runs")
    lines = []
    context = []
    for step in range(40):
        if step in (10, 11):  # nothing came
            context.append(np.nan)
            continue
        values = [70 + step, 71 + step]
        context.append(values[-1] if step != 20 else np.nan)
        lines += [f"0 {step * 1000 + 100 * i} {value} {2 if step == 20 else 0}\n" for i, value in enumerate(values)]
        lines += [f"0 {step * 1000 + 300} 999 1\n"]
    lines += ["0 37000 70 0\n", "0 5000 70 0\n", "not a line\n"]
    out, err = service.process.communicate("".join(lines), timeout=60)
    forecasts = [json.loads(line) for line in out.splitlines()]
    assert [f["t_ms"] for f in forecasts] == [1000 * (k + 1) for k in range(39)]
    assert "40 values were rejected" in err  # 38 of quality 1, both of step 20
    assert "1 values came too late" in err
    assert "1 values strayed" in err
    assert "a line that is not CHANNEL" in err
    python = Forecaster.open(bundle, files / "map.etsa")
    for k, got in enumerate(forecasts):
        wanted = python.forecast(np.array(context[: k + 1][-CONTEXT:], dtype=np.float32)).quantiles
        rows = np.array([got["quantiles"][level] for level in ("0.1", "0.5", "0.9")]).T
        same(rows, wanted)
        assert got["base"] == bundle.digest.hex()


def test_service_tells_systemd(built: Path, library: Path, bundle: Bundle, files: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = str(files / "notify")
        listener.bind(path)
        listener.settimeout(30)
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
        service = Service(built / "service" / "etsa-service", library, bundle, **environment)
        heard = {listener.recv(100).decode()}
        start = time.monotonic()
        while "READY=1" not in heard:
            heard.add(listener.recv(100).decode())
        alive = [listener.recv(100).decode() for _ in range(4)]  # idle: pings come of themselves
        assert set(alive) == {"WATCHDOG=1"}
        assert time.monotonic() - start < 10
        service.finish()
        while "STOPPING=1" not in heard:
            heard.add(listener.recv(100).decode())


def test_service_stops_on_sigterm(built: Path, library: Path, bundle: Bundle) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle)
    service.push()
    service.push()
    service.forecasts(1)
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(timeout=30)
    assert service.process.returncode == 0


def test_service_takes_signals_while_its_input_never_pauses(
    built: Path, library: Path, bundle: Bundle, files: Path
) -> None:
    command = [built / "service" / "etsa-service", "--library", library, bundle.path, files / "map.etsa"]
    with Path("/dev/zero").open("rb") as endless:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=endless, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        assert process.stderr is not None
        for number in (signal.SIGHUP, signal.SIGTERM):
            assert "channel 0 runs" in process.stderr.readline()
            process.send_signal(number)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()


def test_service_takes_signals_that_its_parent_blocked(built: Path, library: Path, bundle: Bundle) -> None:
    command = [built / "service" / "etsa-service", "--library", library, bundle.path, "-"]
    block = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})"
    program = f"{block}; os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, command)], stdin=subprocess.PIPE)
    try:
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()


def test_service_believes_a_clock_that_was_set_but_no_single_stray(built: Path, library: Path, bundle: Bundle) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle)
    steps = (0, 1, 77_777, 2, 10_000_000, 10_000_001, 10_000_002, 10_000_003)
    lines = [f"0 {step * 1000} {70 + number} 0\n" for number, step in enumerate(steps)]
    out, err = service.process.communicate("".join(lines), timeout=60)
    forecasts = [json.loads(line) for line in out.splitlines()]
    assert "3 values strayed" in err  # 77,777 and the first two of the new time
    skipped = re.search(r"(\d+) steps were skipped", err)  # were due when the clock was set
    assert len(forecasts) + (int(skipped[1]) if skipped else 0) == 3
    assert forecasts[-1]["t_ms"] == 10_000_003_000
    assert forecasts[-1]["code"] == 0
    wanted = Forecaster.open(bundle).forecast([76.0]).quantiles
    rows = np.array([forecasts[-1]["quantiles"][level] for level in ("0.1", "0.5", "0.9")]).T
    same(rows, wanted)


def test_service_fills_a_missing_step_late(built: Path, library: Path, bundle: Bundle) -> None:
    service = Service(built / "service" / "etsa-service", library, bundle)
    lines = ["0 0 70 0\n", "0 1000 71 2\n", "0 2000 72 0\n", "0 1500 71.5 0\n", "0 1600 99 0\n", "0 3000 73 0\n"]
    for line in lines[:3]:
        service.write(line)
    first = service.forecasts(2)
    for line in lines[3:]:
        service.write(line)
    rest, err = service.finish()
    assert "1 values came too late" in err  # step 1 had been filled when 99 came
    python = Forecaster.open(bundle)
    contexts = ([70], [70, np.nan], [70, 71.5, 72])
    for got, context in zip([*first, *rest], contexts, strict=True):
        wanted = python.forecast(np.array(context, dtype=np.float32)).quantiles
        rows = np.array([got["quantiles"][level] for level in ("0.1", "0.5", "0.9")]).T
        same(rows, wanted)
