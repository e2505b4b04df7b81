"""What the agent's view of a repository adds to python-tuf: its limits, the durable floor, the cache, its errors.

The client workflow itself is python-tuf's, and the public conformance suite's to test (`docs/guides/deploy.md` says how
it is run against the agent's client).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey

from device_runtime.errors import OfflineError, RollbackError, SignatureError
from device_runtime.update.agent.repository import LIMITS, REVOKED, StaleError
from device_runtime.update.floor import Role
from tests.simulators.tuf_repository import TOP, TufRepository
from tests.simulators.view import NAMES, Viewer

DAY = 86_400.0  # seconds
MOST = {"root": 16_384, "timestamp": 4_096, "snapshot": 16_384, "targets": 65_536}  # bytes
DELEGATIONS = 8


def test_a_poll_asks_in_order_and_raises_the_floor(viewer: Viewer, made: TufRepository) -> None:
    view = viewer.poll()
    assert made.asked == [f"/metadata/{name}.json" for name in ("2.root", "timestamp", "1.snapshot", "1.targets")]
    assert viewer.versions() == dict.fromkeys(TOP, 1)
    assert view.expires() == dict.fromkeys(TOP, made.later.timestamp())
    assert viewer.kept() == NAMES


# --- limits: what is legal passes, one byte, role or version more does not -------------------------------------------


@pytest.mark.parametrize("role", TOP)
@pytest.mark.parametrize("more", [0, 1])
def test_a_role_may_have_so_many_bytes(viewer: Viewer, made: TufRepository, role: str, more: int) -> None:
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
        viewer.poll()
        assert viewer.versions()[role] == 2
        return
    with pytest.raises(OfflineError, match="more than"):
        viewer.poll()
    assert viewer.versions() == {}


def test_so_many_delegations_are_followed(viewer: Viewer, made: TufRepository) -> None:
    names = ["targets", *(f"role-{n}" for n in range(DELEGATIONS + 1))]
    for by, name in pairwise(names):
        made.delegate(by, name)
    for name, path in ((names[-2], "near"), (names[-1], "far")):
        made.add(path, b"content", name)
    made.all(*names)
    found = viewer.poll().target("near")
    assert found is not None
    assert found.path == "near"
    assert viewer.poll().target("far") is None
    assert f"/metadata/1.{names[-1]}.json" not in made.asked


def test_so_many_roots_are_followed_from_the_factorys_on(
    viewer: Viewer, made: TufRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LIMITS["max_root_rotations"] == 256  # a root a month for twenty years
    monkeypatch.setitem(LIMITS, "max_root_rotations", 5)
    for _ in range(7):
        made.publish("root")
    for _ in range(2):  # those that are kept count too
        viewer.poll()
        assert viewer.versions()["root"] == 6


def test_a_target_is_no_longer_than_asked_for(viewer: Viewer, made: TufRepository) -> None:
    made.add("file", b"content")
    made.all("targets")
    view = viewer.poll()
    found = view.target("file")
    assert found is not None
    made.asked.clear()
    with pytest.raises(SignatureError, match="file: 7 bytes, want at most 6"):
        view.download(found, 6)
    assert made.asked == []
    assert view.download(found, 7) == b"content"
    assert viewer.kept() == NAMES  # a target that nobody keeps leaves nothing


# --- the floor holds whatever the cache remembers -----------------------------------------------------------------


def _accepted(viewer: Viewer, made: TufRepository, role: str) -> None:
    """Accept version 5 of a role, then serve version 1 to a monitor that lost its cache."""
    made.delegate("targets", "a")
    made.all("a", "targets")
    viewer.poll().target("file")
    view = viewer.view()
    view.refresh()
    view.target("file")
    viewer.floor = replace(view.floor, roles={**view.floor.roles, role: replace(view.floor.roles[role], version=5)})


@pytest.mark.parametrize("role", [*TOP, "a"])
def test_an_older_role_is_refused_and_the_cache_goes(viewer: Viewer, made: TufRepository, role: str) -> None:
    _accepted(viewer, made, role)
    with pytest.raises(RollbackError, match=f"metadata {role}: version [12] is older than 5, accepted before"):
        viewer.poll().target("file")
    assert not viewer.cache.exists()


@pytest.mark.parametrize("role", [*TOP, "a"])
def test_new_keys_begin_a_new_count_but_for_root(viewer: Viewer, made: TufRepository, role: str) -> None:
    _accepted(viewer, made, role)
    viewer.floor = replace(viewer.floor, roles={**viewer.floor.roles, role: Role(version=5, keys="others")})
    if role == "root":
        with pytest.raises(RollbackError, match="metadata root: version 1 is older than 5"):
            viewer.poll()
        return
    view = viewer.poll()
    view.target("file")
    assert view.floor.roles[role].version == (1 if role == "a" else made.roles[role].version)
    assert view.floor.roles[role].keys != "others"


def test_what_a_role_is_told_apart_by_is_its_keys_and_their_threshold(viewer: Viewer, made: TufRepository) -> None:
    viewer.poll()
    first = {name: role.keys for name, role in viewer.floor.roles.items()}
    made.key("snapshot")
    made.roles["root"].roles["targets"].threshold = 1
    made.all("root")
    viewer.poll()
    changed = {name for name, role in viewer.floor.roles.items() if role.keys != first[name]}
    assert changed == {"snapshot"}
    made.roles["root"].roles["snapshot"].threshold = 2
    second = viewer.floor.roles["snapshot"].keys
    made.all("root")
    viewer.poll()
    assert viewer.floor.roles["snapshot"].keys not in (first["snapshot"], second)


# --- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", TOP)
def test_an_expired_role_is_stale(viewer: Viewer, made: TufRepository, role: str) -> None:
    made.roles[role].expires = made.later - dt.timedelta(days=60)
    made.all("root", "targets")
    with pytest.raises(StaleError, match="the repository is stale"):
        viewer.poll()
    assert (StaleError.code, issubclass(StaleError, RollbackError)) == (RollbackError.code, True)


def test_a_clock_set_back_changes_nothing_of_what_has_expired(viewer: Viewer, made: TufRepository) -> None:
    viewer.poll()
    viewer.floor = replace(viewer.floor, time=viewer.now + 31 * DAY)
    with pytest.raises(StaleError):
        viewer.poll()


def test_a_time_that_keys_vouched_for_that_are_gone_does_not_count(viewer: Viewer, made: TufRepository) -> None:
    viewer.poll()
    viewer.floor = replace(viewer.floor, time=viewer.now + 31 * DAY)
    made.rotate("timestamp")
    made.all("root")
    viewer.poll()
    assert (viewer.floor.time, viewer.versions()["timestamp"]) == (0.0, 2)


def test_new_keys_do_not_help_what_the_clock_itself_says_is_stale(viewer: Viewer, made: TufRepository) -> None:
    viewer.poll()
    made.rotate("timestamp")
    made.all("root")
    viewer.now += 31 * DAY
    with pytest.raises(StaleError):
        viewer.poll()


@pytest.mark.parametrize("days", [-1, 0, 29, 30])
def test_a_date_counts_up_to_what_offline_keys_signed(viewer: Viewer, made: TufRepository, days: int) -> None:
    said = int(made.later.timestamp()) + (days - 30) * int(DAY)
    made.roles["timestamp"].unrecognized_fields["x-signed-at"] = said
    made.publish("timestamp")
    viewer.poll()
    assert viewer.floor.time == (float(said) if days < 30 else 0.0)


@pytest.mark.parametrize("said", [-1, True, "1", None])
def test_a_date_that_is_no_count_of_seconds_is_none(viewer: Viewer, made: TufRepository, said: Any) -> None:
    made.roles["timestamp"].unrecognized_fields["x-signed-at"] = said
    made.publish("timestamp")
    viewer.poll()
    assert viewer.floor.time == 0.0


# --- keys and what the approved role says ----------------------------------------------------------------------------


def _again(role: Any, keys: dict[str, Any]) -> None:
    """Give a role its key once more, under another id."""
    key = keys[role.keyids[0]]
    keys["0" * 64] = SSlibKey("0" * 64, key.keytype, key.scheme, dict(key.keyval))
    role.keyids.append("0" * 64)


def test_a_key_under_two_ids_is_no_two_keys_in_root(viewer: Viewer, made: TufRepository) -> None:
    root = made.roles["root"]
    _again(root.roles["snapshot"], root.keys)
    made.all("root")
    with pytest.raises(SignatureError, match="root gives snapshot the same key twice"):
        viewer.poll()


def test_a_key_under_two_ids_is_no_two_keys_in_a_delegation(viewer: Viewer, made: TufRepository) -> None:
    made.delegate("targets", "a")
    delegations = made.roles["targets"].delegations
    _again(delegations.roles["a"], delegations.keys)
    made.all("a", "targets")
    with pytest.raises(SignatureError, match="targets gives a the same key twice"):
        viewer.poll()


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
def test_what_is_taken_back_is_read_exactly_or_refused(viewer: Viewer, made: TufRepository, what: str) -> None:
    said, want = SAID[what]
    made.delegate("targets", "approved")
    made.roles["approved"].unrecognized_fields[REVOKED] = said
    made.all("approved", "targets")
    view = viewer.poll()
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
def test_a_repository_that_lies_is_told_from_one_that_is_away(viewer: Viewer, made: TufRepository, what: str) -> None:
    change, error = FAULTS[what]
    change(made)
    with pytest.raises(error) as caught:
        viewer.poll()
    assert type(caught.value) is error
    assert viewer.versions() == {}


@pytest.mark.parametrize("status", [403, 404])
def test_a_next_root_that_is_not_there_is_none(viewer: Viewer, made: TufRepository, status: int) -> None:
    made.files["/metadata/2.root.json"] = status
    viewer.poll()
    assert viewer.versions()["root"] == 1


def test_other_bytes_of_a_target_are_refused(viewer: Viewer, made: TufRepository) -> None:
    info = made.add("file", b"content")
    made.all("targets")
    view = viewer.poll()
    path = f"/targets/{info.hashes['sha256']}.file"
    for data, error in ((b"malware", SignatureError), (b"content and more", OfflineError), (404, OfflineError)):
        made.files[path] = data  # type: ignore[assignment]  # bytes or a status
        with pytest.raises(error) as caught:
            view.download(info, 100)
        assert type(caught.value) is error


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["?", "#", "/role", "../role", "a b", "ü", "%2e%2e"])
def test_a_role_of_an_odd_name_is_asked_for_and_kept_inside(viewer: Viewer, made: TufRepository, name: str) -> None:
    made.delegate("targets", name)
    made.add("file", b"content", name)
    made.all(name, "targets")
    view = viewer.poll()
    found = view.target("file")
    assert found is not None
    assert view.download(found, 7) == b"content"
    assert len(list(viewer.cache.glob("*.json"))) == 5
    assert [path for path in viewer.cache.parent.rglob("*role*.json") if path.parent != viewer.cache] == []


@pytest.mark.parametrize(
    "path",
    ["path/to/a/file.txt", "with space.txt", "ümläut.bin", "a+b=c&d,e;f.txt", "[x]{y}.txt", "it's.txt", "~a:b@c"],
)
def test_a_target_of_an_odd_name_is_found(viewer: Viewer, made: TufRepository, path: str) -> None:
    made.add(path, b"content of it")
    made.all("targets")
    view = viewer.poll()
    found = view.target(path)
    assert found is not None
    assert view.download(found, 100) == b"content of it"
    assert view.target("another") is None
