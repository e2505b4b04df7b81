"""The cache of the agent's view: what may be in it, that it is durable, and what serves where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile

from device_runtime.errors import SignatureError, StorageError
from device_runtime.update.agent import repository as agent
from tests.simulators.tuf_repository import TOP, TufRepository
from tests.simulators.view import NAMES, Viewer


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
def test_a_cache_with_anything_else_in_it_is_made_anew(viewer: Viewer, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "elsewhere" / "file"
    outside.parent.mkdir()
    outside.write_bytes(b"untouched")
    viewer.poll()
    _junk(what, viewer.cache, outside)
    view = viewer.poll()
    assert (view.cache, viewer.kept(), viewer.cache.is_symlink()) == (viewer.cache, NAMES, False)
    assert (outside.read_bytes(), [path.name for path in outside.parent.iterdir()]) == (b"untouched", ["file"])


def test_a_cache_as_it_was_left_is_used_and_what_a_cut_left_is_removed(viewer: Viewer, made: TufRepository) -> None:
    viewer.poll()
    (viewer.cache / "tmpx1").write_bytes(b"half")
    (viewer.cache / "full.json").write_bytes(b" " * agent.MAX_CACHED)
    viewer.poll()
    assert made.asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]
    assert viewer.kept() == sorted([*NAMES, "full.json"])


@pytest.mark.parametrize("name", ["root.json", "timestamp.json", "snapshot.json", "targets.json"])
@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_a_damaged_cache_heals(viewer: Viewer, name: str, data: bytes) -> None:
    viewer.poll()
    path = viewer.cache / name
    path.unlink()
    path.write_bytes(data)
    viewer.poll()
    assert (viewer.versions(), viewer.kept()) == (dict.fromkeys(TOP, 1), NAMES)
    assert path.read_bytes() != data


def test_what_was_read_is_on_the_disk_before_the_floor_is_returned(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink().relative_to(viewer.cache.resolve())))

    monkeypatch.setattr(os, "fsync", note)
    viewer.poll()
    files = {"root_history/1.root.json", "timestamp.json", "snapshot.json", "targets.json"}
    assert files | {"root_history", "."} == set(synced)
    assert set(synced[-2:]) == {"root_history", "."}  # names after bytes


def test_a_disk_that_takes_no_cache_is_done_without(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer.cache = viewer.cache.parent / "file" / "tuf"
    viewer.cache.parent.write_bytes(b"")
    view = viewer.poll()
    assert view.cache.parent in [Path(folder) for folder in agent.IN_MEMORY]
    assert viewer.versions() == dict.fromkeys(TOP, 1)
    monkeypatch.setattr(agent, "IN_MEMORY", ())
    with pytest.raises(StorageError, match=r"TUF cache .*tuf: "):
        viewer.poll()


def test_a_disk_that_fills_up_while_roles_are_read_is_done_without(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = viewer.view()

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(view.updater, "refresh", full)
    floor = view.refresh()
    assert {name: role.version for name, role in floor.roles.items()} == dict.fromkeys(TOP, 1)
    assert view.cache != viewer.cache or viewer.kept() == NAMES


def test_a_kept_target_is_fetched_once_and_checked_each_time(viewer: Viewer, made: TufRepository) -> None:
    made.add("file", b"content")
    made.all("targets")
    for change, fetched in ((b"content", 1), (b"content", 0), (b"malware", 1), (b"", 1)):
        kept = viewer.cache / "kept"
        if kept.exists():
            kept.write_bytes(change)
        view = viewer.poll()
        found = view.target("file")
        assert found is not None
        assert view.download(found, 100, keep="kept") == b"content"
        assert [path.startswith("/targets/") for path in made.asked].count(True) == fetched


def test_a_kept_target_that_changes_after_it_was_checked_is_refused(
    viewer: Viewer, made: TufRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.add("file", b"content")
    made.all("targets")
    view = viewer.poll()
    found = view.target("file")
    assert found is not None
    assert view.download(found, 100, keep="kept") == b"content"
    check = view.updater.find_cached_target

    def swapped(target: TargetFile, path: str) -> str | None:
        checked = check(target, path)
        Path(path).write_bytes(b"malware")
        return checked

    monkeypatch.setattr(view.updater, "find_cached_target", swapped)
    with pytest.raises(SignatureError, match="LengthOrHashMismatchError"):
        view.download(found, 100, keep="kept")
