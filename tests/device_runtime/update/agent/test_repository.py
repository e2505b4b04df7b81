"""What the agent's view of a repository adds to python-tuf: its limits, the durable floor, the cache, its errors.

The client workflow itself is python-tuf's, and the public conformance suite's to test (`docs/guides/deploy.md` says how
it is run against the command that is shipped).
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey

from device_runtime.errors import OfflineError, RollbackError, SignatureError, StorageError
from device_runtime.update.agent import repository as agent
from device_runtime.update.agent.fetch import HttpFetcher
from device_runtime.update.agent.repository import LIMITS, REVOKED, Repository, StaleError
from device_runtime.update.floor import Floor, Role
from tests.simulators.tuf_repository import TOP, TufRepository

DAY = 86_400.0  # seconds
MOST = {"root": 16_384, "timestamp": 4_096, "snapshot": 16_384, "targets": 65_536}  # bytes
DELEGATIONS = 8
NAMES = ["root.json", "root_history", "snapshot.json", "targets.json", "timestamp.json"]  # of a cache, sorted


class Monitor:
    """A cache, a floor and a clock; every poll has a view of its own."""

    def __init__(self, folder: Path, url: str, made: TufRepository) -> None:
        self.cache, self.url, self.made = folder / "tuf", f"{url}/", made
        root = made.files["/metadata/1.root.json"]
        assert isinstance(root, bytes)
        self.root = root
        self.floor = Floor()
        self.now = dt.datetime.now(dt.UTC).timestamp()

    def view(self) -> Repository:
        """Begin a poll; the server's log of requests begins anew."""
        self.made.asked.clear()
        return Repository(self.cache, self.url, HttpFetcher(), self.root, self.floor, now=self.now)

    def poll(self) -> Repository:
        """Read the top-level roles and keep the floor."""
        view = self.view()
        self.floor = view.refresh()
        return view

    def versions(self) -> dict[str, int]:
        return {name: role.version for name, role in self.floor.roles.items()}

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir())


@pytest.fixture
def made() -> TufRepository:
    return TufRepository()


@pytest.fixture
def monitor(tmp_path: Path, made: TufRepository) -> Iterator[Monitor]:
    with made.served() as url:
        yield Monitor(tmp_path, url, made)


def test_a_poll_asks_in_order_and_raises_the_floor(monitor: Monitor, made: TufRepository) -> None:
    view = monitor.poll()
    assert made.asked == [f"/metadata/{name}.json" for name in ("2.root", "timestamp", "1.snapshot", "1.targets")]
    assert monitor.versions() == dict.fromkeys(TOP, 1)
    assert view.expires() == dict.fromkeys(TOP, made.later.timestamp())
    assert monitor.kept() == NAMES


# --- limits: what is legal passes, one byte, role or version more does not -------------------------------------------


@pytest.mark.parametrize("role", TOP)
@pytest.mark.parametrize("more", [0, 1])
def test_a_role_may_have_so_many_bytes(monitor: Monitor, made: TufRepository, role: str, more: int) -> None:
    made.roles[role].version += 1
    made.roles[role].unrecognized_fields["x"] = ""
    short = len(made.write(role))
    made.roles[role].unrecognized_fields["x"] = "x" * (MOST[role] - short + more)
    assert len(made.write(role)) == MOST[role] + more
    if role == "targets":
        made.publish("snapshot")
    if role != "timestamp":
        made.publish("timestamp")
    if not more:
        monitor.poll()
        assert monitor.versions()[role] == 2
        return
    with pytest.raises(OfflineError, match="more than"):
        monitor.poll()
    assert monitor.versions() == {}


def test_so_many_delegations_are_followed(monitor: Monitor, made: TufRepository) -> None:
    names = ["targets", *(f"role-{n}" for n in range(DELEGATIONS + 1))]
    for by, name in pairwise(names):
        made.delegate(by, name)
    for name, path in ((names[-2], "near"), (names[-1], "far")):
        made.add(path, b"content", name)
    made.all(*names)
    found = monitor.poll().target("near")
    assert found is not None
    assert found.path == "near"
    assert monitor.poll().target("far") is None
    assert f"/metadata/1.{names[-1]}.json" not in made.asked


def test_so_many_roots_are_followed_from_the_factorys_on(
    monitor: Monitor, made: TufRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LIMITS["max_root_rotations"] == 256  # a root a month for twenty years
    monkeypatch.setitem(LIMITS, "max_root_rotations", 5)
    for _ in range(7):
        made.publish("root")
    for _ in range(2):  # those that are kept count too
        monitor.poll()
        assert monitor.versions()["root"] == 6


def test_a_target_is_no_longer_than_asked_for(monitor: Monitor, made: TufRepository) -> None:
    made.add("file", b"content")
    made.all("targets")
    view = monitor.poll()
    found = view.target("file")
    assert found is not None
    made.asked.clear()
    with pytest.raises(SignatureError, match="file: 7 bytes, want at most 6"):
        view.download(found, 6)
    assert made.asked == []
    assert view.download(found, 7) == b"content"
    assert monitor.kept() == NAMES  # a target that nobody keeps leaves nothing


# --- the floor holds whatever the cache remembers -----------------------------------------------------------------


def _accepted(monitor: Monitor, made: TufRepository, role: str) -> None:
    """Accept version 5 of a role, then serve version 1 to a monitor that lost its cache."""
    made.delegate("targets", "a")
    made.all("a", "targets")
    monitor.poll().target("file")
    view = monitor.view()
    view.refresh()
    view.target("file")
    monitor.floor = replace(view.floor, roles={**view.floor.roles, role: replace(view.floor.roles[role], version=5)})


@pytest.mark.parametrize("role", [*TOP, "a"])
def test_an_older_role_is_refused_and_the_cache_goes(monitor: Monitor, made: TufRepository, role: str) -> None:
    _accepted(monitor, made, role)
    with pytest.raises(RollbackError, match=f"metadata {role}: version [12] is older than 5, accepted before"):
        monitor.poll().target("file")
    assert not monitor.cache.exists()


@pytest.mark.parametrize("role", [*TOP, "a"])
def test_new_keys_begin_a_new_count_but_for_root(monitor: Monitor, made: TufRepository, role: str) -> None:
    _accepted(monitor, made, role)
    monitor.floor = replace(monitor.floor, roles={**monitor.floor.roles, role: Role(version=5, keys="others")})
    if role == "root":
        with pytest.raises(RollbackError, match="metadata root: version 1 is older than 5"):
            monitor.poll()
        return
    view = monitor.poll()
    view.target("file")
    assert view.floor.roles[role].version == (1 if role == "a" else made.roles[role].version)
    assert view.floor.roles[role].keys != "others"


def test_what_a_role_is_told_apart_by_is_its_keys_and_their_threshold(monitor: Monitor, made: TufRepository) -> None:
    monitor.poll()
    first = {name: role.keys for name, role in monitor.floor.roles.items()}
    made.key("snapshot")
    made.roles["root"].roles["targets"].threshold = 1
    made.all("root")
    monitor.poll()
    changed = {name for name, role in monitor.floor.roles.items() if role.keys != first[name]}
    assert changed == {"snapshot"}
    made.roles["root"].roles["snapshot"].threshold = 2
    second = monitor.floor.roles["snapshot"].keys
    made.all("root")
    monitor.poll()
    assert monitor.floor.roles["snapshot"].keys not in (first["snapshot"], second)


# --- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", TOP)
def test_an_expired_role_is_stale(monitor: Monitor, made: TufRepository, role: str) -> None:
    made.roles[role].expires = made.later - dt.timedelta(days=60)
    made.all("root", "targets")
    with pytest.raises(StaleError, match="the repository is stale"):
        monitor.poll()
    assert (StaleError.code, issubclass(StaleError, RollbackError)) == (RollbackError.code, True)


def test_a_clock_set_back_changes_nothing_of_what_has_expired(monitor: Monitor, made: TufRepository) -> None:
    monitor.poll()
    monitor.floor = replace(monitor.floor, time=monitor.now + 31 * DAY)
    with pytest.raises(StaleError):
        monitor.poll()


def test_a_time_that_keys_vouched_for_that_are_gone_does_not_count(monitor: Monitor, made: TufRepository) -> None:
    monitor.poll()
    monitor.floor = replace(monitor.floor, time=monitor.now + 31 * DAY)
    made.rotate("timestamp")
    made.all("root")
    monitor.poll()
    assert (monitor.floor.time, monitor.versions()["timestamp"]) == (0.0, 2)


def test_new_keys_do_not_help_what_the_clock_itself_says_is_stale(monitor: Monitor, made: TufRepository) -> None:
    monitor.poll()
    made.rotate("timestamp")
    made.all("root")
    monitor.now += 31 * DAY
    with pytest.raises(StaleError):
        monitor.poll()


@pytest.mark.parametrize("days", [-1, 0, 29, 30])
def test_a_date_counts_up_to_what_offline_keys_signed(monitor: Monitor, made: TufRepository, days: int) -> None:
    said = int(made.later.timestamp()) + (days - 30) * int(DAY)
    made.roles["timestamp"].unrecognized_fields["x-signed-at"] = said
    made.publish("timestamp")
    monitor.poll()
    assert monitor.floor.time == (float(said) if days < 30 else 0.0)


@pytest.mark.parametrize("said", [-1, True, "1", None])
def test_a_date_that_is_no_count_of_seconds_is_none(monitor: Monitor, made: TufRepository, said: Any) -> None:
    made.roles["timestamp"].unrecognized_fields["x-signed-at"] = said
    made.publish("timestamp")
    monitor.poll()
    assert monitor.floor.time == 0.0


# --- keys and what the approved role says ----------------------------------------------------------------------------


def _again(role: Any, keys: dict[str, Any]) -> None:
    """Give a role its key once more, under another id."""
    key = keys[role.keyids[0]]
    keys["0" * 64] = SSlibKey("0" * 64, key.keytype, key.scheme, dict(key.keyval))
    role.keyids.append("0" * 64)


def test_a_key_under_two_ids_is_no_two_keys_in_root(monitor: Monitor, made: TufRepository) -> None:
    root = made.roles["root"]
    _again(root.roles["snapshot"], root.keys)
    made.all("root")
    with pytest.raises(SignatureError, match="root gives snapshot the same key twice"):
        monitor.poll()


def test_a_key_under_two_ids_is_no_two_keys_in_a_delegation(monitor: Monitor, made: TufRepository) -> None:
    made.delegate("targets", "a")
    delegations = made.roles["targets"].delegations
    _again(delegations.roles["a"], delegations.keys)
    made.all("a", "targets")
    with pytest.raises(SignatureError, match="targets gives a the same key twice"):
        monitor.poll()


FILE = "ab" * 32
SAID: dict[str, tuple[Any, tuple[list[str], int] | None]] = {
    "nothing": ({}, ([], 0)),
    "of another ring": ({"other": {"files": [FILE], "minimum": 3}}, ([], 0)),
    "of this one": ({"icu": {"files": [FILE], "minimum": 3}}, ([FILE], 3)),
    "the highest minimum": ({"icu": {"files": [], "minimum": 2**63 - 1}}, ([], 2**63 - 1)),
    "a list": ([], None),
    "a ring as a list": ({"icu": [FILE]}, None),
    "without a minimum": ({"icu": {"files": [FILE]}}, None),
    "with something more": ({"icu": {"files": [], "minimum": 0, "note": ""}}, None),
    "files as text": ({"icu": {"files": FILE, "minimum": 0}}, None),
    "a file as a number": ({"icu": {"files": [5], "minimum": 0}}, None),
    "half a digest": ({"icu": {"files": [FILE[:32]], "minimum": 0}}, None),
    "a minimum below zero": ({"icu": {"files": [], "minimum": -1}}, None),
    "a minimum of more than 63 bits": ({"icu": {"files": [], "minimum": 2**63}}, None),
    "a minimum that is true": ({"icu": {"files": [], "minimum": True}}, None),
}


@pytest.mark.parametrize("what", SAID)
def test_what_is_taken_back_is_read_exactly_or_refused(monitor: Monitor, made: TufRepository, what: str) -> None:
    said, want = SAID[what]
    made.delegate("targets", "approved")
    made.roles["approved"].unrecognized_fields[REVOKED] = said
    made.all("approved", "targets")
    view = monitor.poll()
    assert (view.knows_revocations, view.revocations("icu")) == (False, ([], 0))
    assert view.target("nothing") is None
    assert view.knows_revocations
    if want is None:
        with pytest.raises(SignatureError, match=f"approved: {REVOKED}: want"):
            view.revocations("icu")
    else:
        assert view.revocations("icu") == want


# --- whose fault ------------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[TufRepository], object], type[Exception]]] = {
    "nothing there": (lambda r: r.files.pop("/metadata/timestamp.json"), OfflineError),
    "a server's fault": (lambda r: r.files.update({"/metadata/timestamp.json": 503}), OfflineError),
    "no snapshot": (lambda r: r.files.update({"/metadata/1.snapshot.json": 404}), OfflineError),
    "a web page": (lambda r: r.put("timestamp", b"<html>"), SignatureError),
    "changed": (lambda r: r.edit("timestamp", lambda v: v["signed"].update(extra=1)), SignatureError),
    "unsigned": (lambda r: r.edit("targets", lambda v: v["signatures"].clear()), SignatureError),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_repository_that_lies_is_told_from_one_that_is_away(monitor: Monitor, made: TufRepository, what: str) -> None:
    change, error = FAULTS[what]
    change(made)
    with pytest.raises(error) as caught:
        monitor.poll()
    assert type(caught.value) is error
    assert monitor.versions() == {}


@pytest.mark.parametrize("status", [403, 404])
def test_a_next_root_that_is_not_there_is_none(monitor: Monitor, made: TufRepository, status: int) -> None:
    made.files["/metadata/2.root.json"] = status
    monitor.poll()
    assert monitor.versions()["root"] == 1


def test_other_bytes_of_a_target_are_refused(monitor: Monitor, made: TufRepository) -> None:
    info = made.add("file", b"content")
    made.all("targets")
    view = monitor.poll()
    path = f"/targets/{info.hashes['sha256']}.file"
    for data, error in ((b"malware", SignatureError), (b"content and more", OfflineError), (404, OfflineError)):
        made.files[path] = data  # type: ignore[assignment]  # bytes or a status
        with pytest.raises(error) as caught:
            view.download(info, 100)
        assert type(caught.value) is error


# --- the cache --------------------------------------------------------------------------------------------------------


def _junk(what: str, cache: Path, outside: Path) -> None:
    """Put something into the cache, or in its place, that neither we nor python-tuf made."""
    file = cache / "timestamp.json"
    match what:
        case "a link":
            file.unlink()
            file.symlink_to(outside)
        case "a second name":
            file.unlink()
            os.link(outside, file)
        case "a pipe":
            os.mkfifo(cache / "pipe")
        case "a folder":
            (cache / "more").mkdir()
        case "a file that is too long":
            (cache / "more.json").write_bytes(b" " * (agent.MAX_CACHED + 1))
        case "a root that leads elsewhere":
            (cache / "root.json").unlink()
            (cache / "root.json").symlink_to(outside)
        case "the cache as a link" | "the cache as a file":
            for path in cache.rglob("*.json"):
                path.unlink()
            (cache / "root_history").rmdir()
            cache.rmdir()
            cache.symlink_to(outside.parent) if "link" in what else cache.write_bytes(b"{}")


JUNK = [
    "a link", "a second name", "a pipe", "a folder", "a file that is too long", "a root that leads elsewhere",
    "the cache as a link", "the cache as a file",
]  # fmt: skip


@pytest.mark.parametrize("what", JUNK)
def test_a_cache_with_anything_else_in_it_is_made_anew(monitor: Monitor, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "elsewhere" / "file"
    outside.parent.mkdir()
    outside.write_bytes(b"untouched")
    monitor.poll()
    _junk(what, monitor.cache, outside)
    view = monitor.poll()
    assert (view.cache, monitor.kept(), monitor.cache.is_symlink()) == (monitor.cache, NAMES, False)
    assert (outside.read_bytes(), [path.name for path in outside.parent.iterdir()]) == (b"untouched", ["file"])


def test_a_cache_as_it_was_left_is_used_and_what_a_cut_left_is_removed(monitor: Monitor, made: TufRepository) -> None:
    monitor.poll()
    (monitor.cache / "tmpx1").write_bytes(b"half")
    (monitor.cache / "full.json").write_bytes(b" " * agent.MAX_CACHED)
    monitor.poll()
    assert made.asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]
    assert monitor.kept() == sorted([*NAMES, "full.json"])


@pytest.mark.parametrize("name", ["root.json", "timestamp.json", "snapshot.json", "targets.json"])
@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_a_damaged_cache_heals(monitor: Monitor, name: str, data: bytes) -> None:
    monitor.poll()
    path = monitor.cache / name
    path.unlink()
    path.write_bytes(data)
    monitor.poll()
    assert (monitor.versions(), monitor.kept()) == (dict.fromkeys(TOP, 1), NAMES)
    assert path.read_bytes() != data


def test_what_was_read_is_on_the_disk_before_the_floor_is_returned(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink().relative_to(monitor.cache.resolve())))

    monkeypatch.setattr(os, "fsync", note)
    monitor.poll()
    files = {"root_history/1.root.json", "timestamp.json", "snapshot.json", "targets.json"}
    assert files | {"root_history", "."} == set(synced)
    assert set(synced[-2:]) == {"root_history", "."}  # names after bytes


def test_a_disk_that_takes_no_cache_is_done_without(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor.cache = monitor.cache.parent / "file" / "tuf"
    monitor.cache.parent.write_bytes(b"")
    view = monitor.poll()
    assert view.cache.parent in [Path(folder) for folder in agent.IN_MEMORY]
    assert monitor.versions() == dict.fromkeys(TOP, 1)
    monkeypatch.setattr(agent, "IN_MEMORY", ())
    with pytest.raises(StorageError, match=r"TUF cache .*tuf: "):
        monitor.poll()


def test_a_disk_that_fills_up_while_roles_are_read_is_done_without(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = monitor.view()

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(view.updater, "refresh", full)
    floor = view.refresh()
    assert {name: role.version for name, role in floor.roles.items()} == dict.fromkeys(TOP, 1)
    assert view.cache != monitor.cache or monitor.kept() == NAMES


def test_a_kept_target_is_fetched_once_and_checked_each_time(monitor: Monitor, made: TufRepository) -> None:
    made.add("file", b"content")
    made.all("targets")
    for change, fetched in ((b"content", 1), (b"content", 0), (b"malware", 1), (b"", 1)):
        kept = monitor.cache / "kept"
        if kept.exists():
            kept.write_bytes(change)
        view = monitor.poll()
        found = view.target("file")
        assert found is not None
        assert view.download(found, 100, keep="kept") == b"content"
        assert [path.startswith("/targets/") for path in made.asked].count(True) == fetched


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["?", "#", "/role", "../role", "a b", "ü", "%2e%2e"])
def test_a_role_of_an_odd_name_is_asked_for_and_kept_inside(monitor: Monitor, made: TufRepository, name: str) -> None:
    made.delegate("targets", name)
    made.add("file", b"content", name)
    made.all(name, "targets")
    view = monitor.poll()
    found = view.target("file")
    assert found is not None
    assert view.download(found, 7) == b"content"
    assert len(list(monitor.cache.glob("*.json"))) == 5
    assert [path for path in monitor.cache.parent.rglob("*role*.json") if path.parent != monitor.cache] == []


@pytest.mark.parametrize(
    "path",
    ["path/to/a/file.txt", "with space.txt", "ümläut.bin", "a+b=c&d,e;f.txt", "[x]{y}.txt", "it's.txt", "~a:b@c"],
)
def test_a_target_of_an_odd_name_is_found(monitor: Monitor, made: TufRepository, path: str) -> None:
    made.add(path, b"content of it")
    made.all("targets")
    view = monitor.poll()
    found = view.target(path)
    assert found is not None
    assert view.download(found, 100) == b"content of it"
    assert view.target("another") is None
