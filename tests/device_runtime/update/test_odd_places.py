"""A machine, a stick or a server that is odd in a way of its own: an outcome all the same, never a traceback."""

from __future__ import annotations

import errno
import os
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_runtime.update import report
from device_runtime.update.agent.fetch import HttpFetcher
from device_runtime.update.agent.poll import Agent
from device_runtime.update.disk import PosixDisk
from device_runtime.update.lifecycle import State
from device_runtime.update.lock import locked
from device_runtime.update.sealed import seal, unseal
from edge_tsfm.deploy import rings
from tests.simulators.bed import CONTEXT, Bed


@pytest.mark.parametrize("where", ["the repository", "its metadata", "one file"])
def test_links_in_a_circle_on_a_stick_are_a_repository_that_cannot_be_read(bed: Bed, where: str) -> None:
    folder = bed.folder / "stick"
    if where == "the repository":
        folder.symlink_to("stick")
    elif where == "its metadata":
        folder.mkdir()
        (folder / "metadata").symlink_to("metadata")
    else:
        (folder / "metadata").mkdir(parents=True)
        (folder / "metadata" / "timestamp.json").symlink_to("timestamp.json")
    outcome = Agent(bed.config_with(repository=str(folder)), bed.installer, clock=lambda: bed.now).poll()
    assert (outcome.action, outcome.code) == ("failed", 420)
    assert bed.versions == [2, 1]


class Elsewhere(socketserver.ThreadingTCPServer):
    """Answers everything with a redirect to one place."""

    allow_reuse_address = True
    daemon_threads = True
    to = ""


class Answer(socketserver.StreamRequestHandler):
    """One answer."""

    def handle(self) -> None:
        self.rfile.readline()
        assert isinstance(self.server, Elsewhere)
        self.wfile.write(
            f"HTTP/1.1 302 Found\r\nLocation: {self.server.to}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
        )


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    "to",
    [
        "http://[::1", "http://a..b/", f"http://{'a' * 70}.example/", "http://127.0.0.1:99999/", "http://127.0.0.1:x/",
        "http:///nowhere", "file:///etc/passwd", "ftp://127.0.0.1/", "data:,x", "http://[v1.x]/", "//", "\xff\xfe",
        "http://\x7f/", "",
    ],
)  # fmt: skip
def test_redirects_to_no_address_are_a_server_that_cannot_be_read(bed: Bed, elsewhere: Elsewhere, to: str) -> None:
    elsewhere.to = to
    config = bed.config_with(repository=f"http://127.0.0.1:{elsewhere.server_address[1]}")
    agent = Agent(config, bed.installer, fetcher=HttpFetcher(2.0, 2.0), clock=lambda: bed.now, deadline=5.0)
    outcome = agent.poll()
    assert (outcome.action, outcome.code) == ("failed", 420), outcome
    assert bed.versions == [2, 1]


def no_thread(_: threading.Thread) -> None:
    """What a machine without a thread to spare says."""
    raise RuntimeError("can't start new thread")


def test_no_thread_to_spare_stops_no_forecast_and_no_poll(
    bed: Bed, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.offer(3)
    assert bed.poll().action == "trial"
    config = bed.config_with(report_to=f"http://127.0.0.1:{elsewhere.server_address[1]}/")
    with monkeypatch.context() as patch:
        patch.setattr(
            threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start new thread"))
        )
        bed.config = config
        host = bed.host()
        host._changed = report.reporter(config, "")
        assert host.forecast(CONTEXT).adapter_version == 3
        assert report.report_on(config, bed.slots, "").startswith("[420]")
        web = bed.config_with(repository=f"http://127.0.0.1:{elsewhere.server_address[1]}")
        outcome = Agent(web, bed.installer, clock=lambda: bed.now).poll()
        assert (outcome.action, outcome.code) == ("failed", 420)
        assert "no thread" in outcome.reason
    assert (bed.record.state, bed.versions) == (State.CONFIRMED, [3, 2])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EACCES])
def test_no_place_for_what_is_fetched_costs_no_sequence(bed: Bed, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    bed.offer(3)

    def none(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryDirectory", none)
        outcome = bed.poll()
    assert (outcome.action, outcome.code) == ("failed", 400)
    assert (bed.versions, bed.record.failed_sequence) == ([2, 1], -1)
    assert bed.poll().action == "trial"


def test_a_reserve_that_is_longer_than_any_is_made_anew(bed: Bed) -> None:
    for name in (".tmp-state", ".tmp-floor.a", ".tmp-floor.b"):
        with (bed.config.state / name).open("wb") as file:
            file.truncate(3 << 30)
    assert bed.poll().action == "nothing"
    assert all((bed.config.state / name).stat().st_size < 1 << 20 for name in (".tmp-state", ".tmp-floor.a"))
    bed.offer(3)
    assert bed.poll().action == "trial"


@pytest.mark.parametrize("name", ["lock", "poll.lock"])
@pytest.mark.parametrize("what", ["fifo", "folder", "link", "dangling", "device"])
def test_a_lock_that_is_no_file_keeps_nobody_from_a_revocation(bed: Bed, name: str, what: str) -> None:
    path, victim = bed.config.state / name, bed.folder / "victim"
    path.unlink(missing_ok=True)
    victim.write_bytes(b"victim")
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
        (path / "inside").touch()
    else:
        path.symlink_to({"link": victim, "dangling": bed.folder / "nowhere", "device": "/dev/zero"}[what])
    host = bed.host()
    current = bed.record.current
    assert current is not None
    rings.take_back(bed.publisher, "icu", current.file, older=False, who="ops", why="complaint")
    assert bed.poll().action == "rolled back"
    assert host.forecast(CONTEXT).adapter_version == 1
    assert path.is_file()
    assert not path.is_symlink()
    assert victim.read_bytes() == b"victim"
    assert not (bed.folder / "nowhere").exists()


@pytest.mark.parametrize("how", ["a second name", "3 GB"])
def test_a_file_of_the_cache_that_is_not_ours_is_fetched_again(bed: Bed, how: str) -> None:
    cache, victim = bed.config.state / "tuf", bed.folder / "victim"
    victim.write_bytes(b"victim")
    names = sorted(path.relative_to(cache) for path in cache.rglob("*") if path.is_file() and not path.is_symlink())
    assert len(names) >= 6
    for name in names:
        if how == "3 GB":
            with (cache / name).open("wb") as file:
                file.truncate(3 << 30)
        else:
            (cache / name).unlink()
            (cache / name).hardlink_to(victim)
        outcome = bed.poll()
        assert (outcome.action, outcome.code) == ("nothing", 0), (name, outcome)
        assert victim.read_bytes() == b"victim", name
        assert all(path.stat().st_size < 1 << 20 for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("text", [b"a victim", b"a victim of\ntwo lines, and a torn one"])
def test_a_second_name_of_another_file_is_never_cut(bed: Bed, text: bytes) -> None:
    victim = bed.folder / "victim"
    victim.write_bytes(text)
    log = bed.config.state / "audit.log"
    log.unlink()
    log.hardlink_to(victim)
    with locked(bed.config.state):
        bed.slots.fall_back("by hand", who="operator")
    assert victim.read_bytes() == text
    assert bed.versions == [1]
    disk = PosixDisk(bed.folder)
    (bed.folder / "name").hardlink_to(victim)
    disk.cut("name", 3)
    assert (victim.read_bytes(), (bed.folder / "name").read_bytes()) == (text, text[:3])


@pytest.mark.parametrize(
    "entry",
    [
        {"follows": "x", "stands_for": "x"}, {"follows": "x", "stands_for": []}, {"follows": "x", "stands_for": 0},
        {"follows": "x", "stands_for": True}, {"follows": "x", "reason": "y" * 5_000},
    ],
)  # fmt: skip
def test_junk_in_the_entries_of_a_sealed_record_means_the_base(bed: Bed, entry: dict[str, Any]) -> None:
    path = bed.config.state / "state"
    path.write_bytes(seal({**unseal(path.read_bytes(), "state"), "log": [entry]}))
    host = bed.host()
    assert host.forecast(CONTEXT).adapter is None
    assert "log" in host.problem
    with locked(bed.config.state):
        bed.slots.refuse(1, "test", who="test")  # and changes go on
    assert bed.slots.problem == ""


def test_a_record_whose_entries_are_nested_deep_means_the_base(bed: Bed) -> None:
    path = bed.config.state / "state"
    value: Any = []
    for _ in range(800):
        value = [value]
    data = seal({**unseal(path.read_bytes(), "state"), "log": [{"follows": "x", "value": value}]})
    path.write_bytes(data)
    assert bed.host().forecast(CONTEXT) is not None
    assert Path(path).exists()
