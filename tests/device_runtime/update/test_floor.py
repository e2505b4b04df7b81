"""The floor by itself: what it refuses, and what only new keys may begin anew."""

from __future__ import annotations

import pytest

from device_runtime.errors import RollbackError, StorageError
from device_runtime.update.floor import MAX_REVOKED, Floor, Role

FILES = {name: name * 64 for name in "abc"}
FLOOR = Floor(sequences={"icu": (5, FILES["a"])}, security_minimum={"or": 3}, revoked=(FILES["c"],))


@pytest.mark.parametrize(
    ("ring", "sequence", "file", "why"),
    [
        ("icu", 4, "a", "sequence 4"),
        ("icu", 5, "b", "sequence 5"),  # the same sequence for another file
        ("or", 2, "a", "below the security minimum"),
        ("icu", 6, "c", "is revoked"),
        ("else", 0, "c", "is revoked"),
    ],
)
def test_what_is_older_or_taken_back_is_refused(ring: str, sequence: int, file: str, why: str) -> None:
    with pytest.raises(RollbackError, match=why):
        FLOOR.accept_sequence(ring, sequence, FILES[file])


@pytest.mark.parametrize(
    ("ring", "sequence", "file"), [("icu", 5, "a"), ("icu", 6, "b"), ("or", 3, "a"), ("x", 0, "a")]
)
def test_what_is_newer_or_the_very_same_is_taken(ring: str, sequence: int, file: str) -> None:
    assert FLOOR.accept_sequence(ring, sequence, FILES[file]).sequences[ring] == (sequence, FILES[file])


@pytest.mark.parametrize("name", ["root", "targets"])
def test_a_role_may_not_go_back_but_for_new_keys_and_root_never(name: str) -> None:
    floor = Floor(roles={name: Role(version=7, keys="old")})
    with pytest.raises(RollbackError, match="version 6 is older than 7"):
        floor.accept_roles({name: Role(version=6, keys="old")})
    assert floor.accept_roles({name: Role(version=7, keys="old")}).roles[name].version == 7
    anew = {name: Role(version=1, keys="new")}
    if name == "root":
        with pytest.raises(RollbackError, match="version 1 is older than 7"):
            floor.accept_roles(anew)
    else:
        assert floor.accept_roles(anew).roles[name].version == 1


def test_of_two_copies_each_roles_higher_version_counts_and_new_keys_the_later_written() -> None:
    older = Floor(number=1, roles={"targets": Role(version=9, keys="k"), "snapshot": Role(version=9, keys="old")})
    newer = Floor(number=2, roles={"targets": Role(version=4, keys="k"), "snapshot": Role(version=1, keys="new")})
    for got in (older.highest(newer), newer.highest(older)):
        assert got.roles == {"targets": Role(version=9, keys="k"), "snapshot": Role(version=1, keys="new")}


def test_the_time_only_rises_while_the_same_keys_vouch_for_it() -> None:
    floor = Floor().accept_time(100.0, "keys")
    assert floor.accept_time(50.0, "keys").time == 100.0
    assert floor.accept_time(50.0, "others").time == 50.0


def test_revocations_add_up_to_a_bound() -> None:
    floor = FLOOR.accept_revocations("or", [FILES["a"], FILES["c"]], 2)
    assert floor.revoked == (FILES["c"], FILES["a"])
    assert floor.security_minimum["or"] == 3  # never lower
    with pytest.raises(StorageError, match="want at most"):
        floor.accept_revocations("or", (f"{number:064x}" for number in range(MAX_REVOKED)), 0)
