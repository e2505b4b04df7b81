"""A fleet of simulated monitors against a real static HTTP server: real agents, hosts, slots and models, one process.

    python -m tests.simulators.fleet --monitors 500

Every monitor has a folder of its own and does all that a real one does: polls, verifies, stages, proves, tries, judges
by its forecasts, confirms or rolls back, reports. Only the waiting is left out: clocks are set, not waited for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from device_runtime.errors import ForecastError
from device_runtime.forecast.forecaster import Forecast, Forecaster
from device_runtime.monitor import installer_of
from device_runtime.update.agent.poll import Agent, Outcome
from device_runtime.update.disk import PosixDisk
from device_runtime.update.health import HealthRules
from device_runtime.update.host import Host
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.controller import Decision, Stage
from tests.simulators.publisher import approve_version, make_device, make_repository

CONTEXT = [70.0 + i % 5 for i in range(16)]
RULES = HealthRules(seconds=600.0, min_forecasts=3)
PLAN = (Stage(permille=50, min_reports=5, soak_hours=0.0), Stage(permille=1000, min_reports=5, soak_hours=0.0))


class _Counted:
    """A socket's file that counts what passes."""

    def __init__(self, file: BinaryIO, totals: Counter[str], name: str) -> None:
        self._file, self._totals, self._name = file, totals, name

    def write(self, data: bytes) -> int:
        self._totals[self._name] += len(data)
        return self._file.write(data)

    def readline(self, limit: int = -1) -> bytes:
        line = self._file.readline(limit)
        self._totals[self._name] += len(line)
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Handler(SimpleHTTPRequestHandler):
    """Serves files and counts bytes on the wire, headers included; error pages are as short as nginx's (153 bytes)."""

    error_message_format = "<html>%(code)d %(message)s" + " " * 129 + "</html>"

    def __init__(self, *arguments: Any, totals: Counter[str], **options: Any) -> None:
        self.totals = totals
        super().__init__(*arguments, **options)

    def setup(self) -> None:
        super().setup()
        self.rfile = _Counted(self.rfile, self.totals, "sent")  # type: ignore[assignment]
        self.wfile = _Counted(self.wfile, self.totals, "received")  # type: ignore[assignment]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Counter[str]]]:
    """Serve a folder on loopback; yield its address and the bytes that monitors sent and received."""
    totals: Counter[str] = Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder), totals=totals))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", totals
    finally:
        server.shutdown()
        server.server_close()


class Monitor:
    """One monitor: an agent and a host over one state folder."""

    def __init__(self, config: DeviceConfig) -> None:
        self.config = dataclasses.replace(config, health=RULES)
        self.installer = installer_of(self.config)
        self.seconds = 0.0
        self.host: Host | None = None

    def poll(self) -> Outcome:
        """Ask once for updates."""
        return Agent(self.config, self.installer).poll(activate_now=True)

    def watch(self, *, sick: int | None = None) -> None:
        """Forecast through a health window; adapters of version ``sick`` fail once they run."""
        self.host = self.host or Host(self.config, self.installer.open, clock=lambda: self.seconds)
        for _ in range(RULES.min_forecasts + 1):
            self.seconds += RULES.seconds / 2
            self.host.refresh()
            runs = self.host.started.running
            if runs.adapter is not None and runs.adapter.version == sick:
                runs = _Sick(runs)
                self.host.started = dataclasses.replace(self.host.started, running=runs)
            try:
                self.host.forecast(CONTEXT)
            except ForecastError:
                continue

    @property
    def runs(self) -> int:
        """Version of the adapter that runs; 0 is the base alone."""
        entry = Slots(PosixDisk(self.config.state), device_id=self.config.device_id).record.runs
        return entry.version if entry else 0


class _Sick(Forecaster):
    """A forecaster whose forecasts are not finite, as an adapter may turn out on one monitor's data."""

    def __init__(self, healthy: Forecaster) -> None:
        self.__dict__.update(healthy.__dict__)

    def forecast(self, *_: Any, **__: Any) -> Forecast:
        raise ForecastError("the model's quantiles are not finite")


@dataclass
class Phase:
    """What one thing that happened to the fleet cost and did."""

    name: str
    monitors: int = 0  # that were polled
    sent: float = 0.0  # bytes for each, headers included
    received: float = 0.0
    milliseconds: float = 0.0  # median of a poll
    outcomes: dict[str, int] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)  # adapter version -> monitors, afterwards
    decision: str = ""


class Fleet:
    """A repository, its server, and the monitors that follow it."""

    def __init__(self, folder: Path, count: int) -> None:
        # Each monitor keeps its base's files open: one process is not meant to be hundreds of them.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.folder = folder
        self.repository = make_repository(folder, now=datetime.now(UTC))
        self.phases: list[Phase] = []
        self.stack = served(self.repository.folder / "public")
        url, self.totals = self.stack.__enter__()
        self.monitors = [
            Monitor(make_device(folder / f"bed-{number}", self.repository, f"bed-{number}", url=url))
            for number in range(count)
        ]

    def close(self) -> None:
        """Stop the server."""
        self.stack.__exit__(None, None, None)

    def poll(self, name: str, *, sick: int | None = None, decide: bool = False) -> Phase:
        """Every monitor polls and then forecasts for a while; monitors on a trial poll again to report how it went."""
        phase = Phase(name)
        before, times, outcomes = Counter(self.totals), [], Counter[str]()
        for monitor in self.monitors:
            start = time.perf_counter()
            outcome = monitor.poll()
            times.append((time.perf_counter() - start) * 1e3)
            outcomes[outcome.action] += 1
        spent = self.totals - before
        for monitor in self.monitors:
            if monitor.runs or monitor.host:
                monitor.watch(sick=sick)
                monitor.poll()
        phase.monitors, phase.milliseconds, phase.outcomes = len(times), statistics.median(times), dict(outcomes)
        phase.sent, phase.received = spent["sent"] / len(times), spent["received"] / len(times)
        phase.runs = dict(sorted(Counter(monitor.runs for monitor in self.monitors).items()))
        if decide:
            decision: Decision = rings.step(self.repository, "icu", self.folder / "reports", who="ops")
            phase.decision = f"{decision.action.value}: {decision.why}"
        self.phases.append(phase)
        return phase

    def publish(self, version: int) -> str:
        """Approve an adapter and offer it to the first stage."""
        file = approve_version(self.repository, version).file
        rings.start(self.repository, "icu", file, PLAN, who="ops")
        return file


def run(folder: Path, count: int) -> list[Phase]:
    """A good adapter in two stages, a bad one that must stop at the first, and one that is taken back everywhere."""
    fleet = Fleet(folder, count)
    try:
        first = fleet.publish(1)
        fleet.poll("version 1 to the first 5 %", decide=True)
        fleet.poll("version 1 to all", decide=True)
        fleet.poll("the controller's last word")
        fleet.poll("idle: nothing new")
        fleet.publish(2)
        fleet.poll("version 2, which fails in use, to the first 5 %", sick=2, decide=True)
        fleet.poll("after the stop")
        rings.take_back(fleet.repository, "icu", first, older=False, who="ops", why="complaint")
        fleet.poll("version 1 is revoked")
    finally:
        fleet.close()
    return fleet.phases


def table(phases: list[Phase]) -> str:
    """Lay the phases out as a Markdown table."""
    head = "| | bytes sent | received | ms a poll | outcomes of the poll | runs afterwards (0: base) | controller |\n"
    rows = [
        f"| {p.name} | {p.sent:,.0f} | {p.received:,.0f} | {p.milliseconds:.1f} | "
        f"{', '.join(f'{n} {what}' for what, n in p.outcomes.items())} | "
        f"{', '.join(f'{n} × v{v}' for v, n in p.runs.items())} | {p.decision} |"
        for p in phases
    ]
    return head + "|---|--:|--:|--:|---|---|---|\n" + "\n".join(rows)


def main() -> None:
    """Run a fleet and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--monitors", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        phases = run(Path(folder), options.monitors)
        seconds = time.perf_counter() - start
    if options.json:
        print(json.dumps([dataclasses.asdict(phase) for phase in phases]))  # noqa: T201 - a command's output
    else:
        print(f"{table(phases)}\n\n{options.monitors} monitors, {seconds:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
