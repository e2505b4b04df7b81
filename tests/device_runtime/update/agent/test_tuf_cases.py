"""The TUF client workflow case by case, through the agent's own command (`edge-tsfm-device tuf-conformance`).

From the specification (1.0.x, section 5) and in the areas that the public suite covers, as a table: each case makes
a repository, runs `init`, `refresh` or `download` as the suite does, and looks at the exit status, at the files under
their names without versions, and at what was asked of the server. ``pytest -q --collect-only`` on this file lists them.
What is not here is the suite's two frozen repositories of other projects.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Root
from tuf.api.serialization.json import JSONSerializer
from tuf.ngclient._internal import trusted_metadata_set

from device_runtime.cli import cli
from tests.simulators.tuf_repository import TufRepository

DAY = dt.timedelta(days=1)


class Client:
    """The command, its folders, and the repository that it reads."""

    def __init__(self, folder: Path, url: str, repository: TufRepository, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.url, self.repository, self.patch = folder, url, repository, patch
        self.cache, self.fetched = folder / "metadata", folder / "fetched"

    def run(self, command: str, *targets: str, argument: Path | None = None) -> int:
        """Run one command; the repository's log of requests begins anew."""
        self.repository.asked.clear()
        options = ["--metadata-dir", str(self.cache), "--metadata-url", f"{self.url}/metadata"]
        for target in targets:
            options += ["--target-name", target]
        options += ["--target-base-url", f"{self.url}/targets", "--target-dir", str(self.fetched)]
        arguments = ["tuf-conformance", *options, command, *([str(argument)] if argument else [])]
        return CliRunner().invoke(cli, arguments).exit_code

    def init(self, root: bytes | None = None) -> int:
        """Trust the repository's first root."""
        path = self.folder / "trusted.json"
        data = self.repository.files["/metadata/1.root.json"] if root is None else root
        assert isinstance(data, bytes)
        path.write_bytes(data)
        return self.run("init", argument=path)

    def refresh(self) -> int:
        return self.run("refresh")

    def download(self, *targets: str) -> int:
        return self.run("download", *targets)

    def version(self, role: str) -> int | None:
        path = self.cache / f"{role}.json"
        return int(json.loads(path.read_bytes())["signed"]["version"]) if path.exists() else None

    def bytes(self) -> list[bytes]:
        found = [path for path in self.fetched.rglob("*") if path.is_file()]
        return [path.read_bytes() for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]

    def later(self, days: float) -> None:
        """Let the client's clock be some days ahead."""
        real = dt.datetime

        class Later(real):
            @classmethod
            def now(cls, tz: Any = None) -> dt.datetime:
                return real.now(tz) + days * DAY

        ahead = types.SimpleNamespace(datetime=Later, timezone=dt.timezone)
        self.patch.setattr(trusted_metadata_set, "datetime", ahead)


Case = Callable[[TufRepository, Client], None]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Put a case into the table."""

    def put(function: Case) -> Case:
        assert name not in CASES
        CASES[name] = function
        return function

    return put


# --- trust and the order of the workflow ----------------------------------------------------------------------------


@case("basic: init asks nothing, refresh asks in order, files have names without versions")
def _(r: TufRepository, c: Client) -> None:
    assert (c.init(), r.asked) == (0, [])
    assert c.refresh() == 0
    names = ["2.root", "timestamp", "1.snapshot", "1.targets"]
    assert r.asked == [f"/metadata/{name}.json" for name in names]
    assert {path.name for path in c.cache.glob("*.json")} == {
        f"{n}.json" for n in ("root", *names[1:2], "snapshot", "targets")
    }
    assert [c.version(role) for role in ("root", "timestamp", "snapshot", "targets")] == [1, 1, 1, 1]


@case("basic: a download without a refresh before makes one")
def _(r: TufRepository, c: Client) -> None:
    c.init()
    assert c.download("nonexistent") == 1
    assert len(r.asked) == 4
    assert c.version("targets") == 1


@case("basic: a second refresh asks for root and timestamp alone")
def _(r: TufRepository, c: Client) -> None:
    c.init()
    c.refresh()
    assert c.refresh() == 0
    assert r.asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def _bad_root(change: Callable[[dict[str, Any]], None]) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        value = json.loads(r.files["/metadata/1.root.json"])
        change(value)
        c.init(json.dumps(value).encode())  # may or may not fail
        assert c.refresh() == 1
        assert r.asked == []

    return run


BAD_ROOTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "without a version": lambda v: v["signed"].pop("version"),
    "without a signature": lambda v: v["signatures"].clear(),
    "with another's signature": lambda v: v["signatures"][0].update(sig="00" * 64),
    "changed after it was signed": lambda v: v["signed"].update(version=2),
    "of another type": lambda v: v["signed"].update(_type="targets"),
    "without roles": lambda v: v["signed"].update(roles={}),
}
for title, change in BAD_ROOTS.items():
    case(f"basic: a first root {title} is refused and nothing is asked")(_bad_root(change))


@case("basic: no root at all is refused")
def _(r: TufRepository, c: Client) -> None:
    c.cache.mkdir()
    assert c.refresh() == 1


@case("basic: a timestamp with other content and the same version is not taken")
def _(r: TufRepository, c: Client) -> None:
    c.init()
    c.refresh()
    before = (c.cache / "timestamp.json").read_bytes()
    r.roles["timestamp"].snapshot_meta.version = 100
    r.put("timestamp", r.sign("timestamp").to_bytes(JSONSerializer()))
    assert c.refresh() == 0
    assert (c.cache / "timestamp.json").read_bytes() == before


def _mismatch(role: str) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        c.init()
        role_now = r.roles[role]
        role_now.version += 1
        data = r.sign(role).to_bytes(JSONSerializer())
        role_now.version -= 1
        r.put(role, data)  # under the name of version 1 lies version 2
        assert c.refresh() == 1
        assert c.version(role) is None

    return run


for title in ("snapshot", "targets"):
    case(f"basic: a {title} of another version than its name and who names it is refused")(_mismatch(title))


def _hash_mismatch(role: str) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        r.hashes = True
        r.all("targets")
        c.init()
        assert c.refresh() == 0
        r.all("targets")
        r.edit(role, lambda value: None)  # the same content in other bytes
        assert c.refresh() == 1
        assert c.version(role) == 2

    return run


for title in ("snapshot", "targets"):
    case(f"basic: a {title} whose bytes are not those that were hashed is refused")(_hash_mismatch(title))


@case("basic: hashes and lengths that are right are accepted")
def _(r: TufRepository, c: Client) -> None:
    r.hashes = True
    r.all("targets")
    c.init()
    assert c.refresh() == 0
    assert c.version("targets") == 2


@case("basic: what is trusted is kept byte for byte")
def _(r: TufRepository, c: Client) -> None:
    served = {}
    for role in ("root", "targets", "snapshot", "timestamp"):
        r.roles[role].version += 1
        value = json.loads(r.sign(role).to_bytes(JSONSerializer()))
        served[role] = json.dumps(dict(reversed(value.items())), indent=7).encode() + b"\n\n"
        r.put(role, served[role])
        r.name(role, served[role])
    c.init()
    assert c.refresh() == 0
    assert {role: (c.cache / f"{role}.json").read_bytes() for role in served} == served


@case("basic: unknown fields are signed like the others and accepted")
def _(r: TufRepository, c: Client) -> None:
    root = r.roles["root"]
    root.unrecognized_fields["x"] = {"deep": [1, None, "ä"]}
    root.keys[root.roles["root"].keyids[0]].unrecognized_fields["y"] = {"a": 1}
    root.roles["root"].unrecognized_fields["z"] = "value"
    for role in ("timestamp", "snapshot", "targets"):
        r.roles[role].unrecognized_fields["x"] = {"value": role}
    r.roles["snapshot"].meta["other.json"] = r.roles["snapshot"].meta["targets.json"]
    r.all("root", "targets")
    c.init()
    assert c.refresh() == 0
    assert (c.version("root"), c.version("targets")) == (2, 2)


@case("basic: unknown fields beside the signatures are passed over")
def _(r: TufRepository, c: Client) -> None:
    r.edit("timestamp", lambda v: (v.update(comment="x"), v["signatures"][0].update(note="y")))
    c.init()
    assert c.refresh() == 0


def _status(role: str, status: int, code: int) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        version = {"root": "2.", "timestamp": ""}.get(role, "1.")
        r.files[f"/metadata/{version}{role}.json"] = status
        c.init()
        assert c.refresh() == code
        assert c.version("root") == 1

    return run


for title, status, code in (
    ("root", 404, 0), ("root", 403, 0), ("root", 500, 1), ("timestamp", 404, 1), ("timestamp", 503, 1),
    ("snapshot", 404, 1), ("targets", 404, 1),
):  # fmt: skip
    case(f"basic: {title} answered with {status} ends with {code}")(_status(title, status, code))


def _damage(role: str, damage: Callable[[TufRepository, str], object]) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        if role == "root":
            r.roles["root"].version += 1
        damage(r, role)
        c.init()
        assert c.refresh() == 1
        assert c.version(role) == (1 if role == "root" else None)

    return run


DAMAGE: dict[str, Callable[[TufRepository, str], object]] = {
    "of another type": lambda r, role: r.edit(role, lambda v: v["signed"].update(_type="mirrors")),
    "unsigned": lambda r, role: r.edit(role, lambda v: v["signatures"].clear()),
    "changed after it was signed": lambda r, role: r.edit(role, lambda v: v["signed"].update(extra=1)),
    "cut short": lambda r, role: r.put(role, r.sign(role).to_bytes(JSONSerializer())[:-20]),
    "that is no JSON": lambda r, role: r.put(role, b"<html>not found</html>"),
    "of specification 2": lambda r, role: r.put(role, _raw(r, role)),
}


def _raw(r: TufRepository, role: str) -> bytes:
    """Sign a role with a specification version that the library would not let through."""
    r.roles[role].spec_version = "2.0.0"
    return r.sign(role).to_bytes(JSONSerializer())


for role in ("root", "timestamp", "snapshot", "targets"):
    for title, damage in DAMAGE.items():
        case(f"damage: a {role} {title} is refused")(_damage(role, damage))


@case("basic: a later specification 1 is accepted")
def _(r: TufRepository, c: Client) -> None:
    for role in ("root", "timestamp", "snapshot", "targets"):
        r.roles[role].spec_version = "1.99.7"
    r.all("root", "targets")
    c.init()
    assert c.refresh() == 0


# --- limits: what is legal must pass, what is endless must not ------------------------------------------------------


def _large(role: str, size: int, code: int) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        r.roles[role].unrecognized_fields["x"] = "x" * size
        r.all(*({"root", "targets"} & {role}))
        c.init()
        assert c.refresh() == code

    return run


for role, size in (("root", 500_000), ("timestamp", 15_000), ("snapshot", 1_900_000), ("targets", 4_900_000)):
    case(f"limits: a {role} of {size:,} bytes is accepted")(_large(role, size, 0))
for role, size in (("root", 520_000), ("timestamp", 17_000), ("snapshot", 2_100_000), ("targets", 5_100_000)):
    case(f"limits: a {role} of {size:,} bytes is refused")(_large(role, size, 1))


@case("limits: an endless timestamp is refused early")
def _(r: TufRepository, c: Client) -> None:
    r.files["/metadata/timestamp.json"] = b" " * 50_000_000
    c.init()
    assert c.refresh() == 1


@case("limits: 200 root versions in one refresh")
def _(r: TufRepository, c: Client) -> None:
    for _ in range(200):
        r.publish("root")
    c.init()
    assert c.refresh() == 0
    assert c.version("root") == 201


# --- expiry ---------------------------------------------------------------------------------------------------------


@case("expiry: an expired root is taken, nothing behind it is")
def _(r: TufRepository, c: Client) -> None:
    c.init()
    c.refresh()
    r.roles["root"].expires = r.later - 60 * DAY
    r.all("root", "targets")
    assert c.refresh() == 1
    assert (c.version("root"), c.version("timestamp"), c.version("targets")) == (2, 1, 1)


@case("expiry: an expired root in the middle of a chain does not matter")
def _(r: TufRepository, c: Client) -> None:
    r.roles["root"].expires = r.later - 60 * DAY
    r.publish("root")
    r.roles["root"].expires = r.later
    r.publish("root")
    c.init()
    assert c.refresh() == 0
    assert c.version("root") == 3


def _expired(role: str) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        c.init()
        c.refresh()
        r.roles[role].expires = r.later - 60 * DAY
        r.all(*({"targets"} & {role}))
        assert c.refresh() == 1
        assert c.version(role) == 1

    return run


for title in ("timestamp", "snapshot", "targets"):
    case(f"expiry: an expired {title} is refused")(_expired(title))


@case("expiry: what expired in the cache is replaced by what has not")
def _(r: TufRepository, c: Client) -> None:
    for role in ("timestamp", "snapshot", "targets"):
        r.roles[role].expires = r.later - 23 * DAY
    r.all("targets")
    c.init()
    assert c.refresh() == 0
    for role in ("timestamp", "snapshot", "targets"):
        r.roles[role].expires = r.later
    r.all("targets")
    c.later(18)
    assert c.refresh() == 0
    assert (c.version("timestamp"), c.version("snapshot"), c.version("targets")) == (3, 3, 3)


@case("expiry: an expired root in the cache is replaced by one that has not")
def _(r: TufRepository, c: Client) -> None:
    r.roles["root"].expires = r.later - 23 * DAY
    r.publish("root")
    c.init()
    assert c.refresh() == 0
    c.later(18)
    assert c.refresh() == 1
    r.roles["root"].expires = r.later
    r.publish("root")
    assert c.refresh() == 0


@case("expiry: time is judged when the update began (and the cache alone is no update)")
def _(r: TufRepository, c: Client) -> None:
    c.init()
    c.refresh()
    c.later(31)
    assert c.refresh() == 1


@case("expiry: an expired delegated role is not used")
def _(r: TufRepository, c: Client) -> None:
    r.delegate("targets", "a")
    r.roles["a"].expires = r.later - 60 * DAY
    r.add("file", b"content", "a")
    r.all("a", "targets")
    c.init()
    assert c.refresh() == 0
    assert c.download("file") == 1
    assert (c.bytes(), c.version("a")) == ([], None)


@case("expiry: a delegated role that expired in the cache is fetched anew or not used")
def _(r: TufRepository, c: Client) -> None:
    r.delegate("targets", "a")
    r.roles["a"].expires = r.later - 23 * DAY
    r.add("file", b"content", "a")
    r.add("second", b"second", "a")
    r.all("a", "targets")
    c.init()
    assert c.download("file") == 0
    c.later(18)
    assert c.download("second") == 1
    r.roles["a"].expires = r.later
    r.all("a")
    assert c.download("second") == 0


# --- rollback and recovery ------------------------------------------------------------------------------------------


@case("rollback: an older timestamp is refused")
def _(r: TufRepository, c: Client) -> None:
    r.publish("timestamp")
    c.init()
    assert c.refresh() == 0
    r.roles["timestamp"].version = 1
    r.write("timestamp")
    assert c.refresh() == 1
    assert c.version("timestamp") == 2


@case("rollback: an older snapshot that nobody names is not asked for")
def _(r: TufRepository, c: Client) -> None:
    r.all()
    c.init()
    c.refresh()
    r.roles["snapshot"].version = 1
    r.put("snapshot", r.sign("snapshot").to_bytes(JSONSerializer()))
    assert c.refresh() == 0
    assert c.version("snapshot") == 2


def _rollback(role: str, hashes: bool) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        r.hashes = hashes
        r.all("targets")
        r.all("targets")
        c.init()
        assert c.refresh() == 0
        r.roles[role].version = 0
        r.publish(role)
        if role == "targets":
            r.publish("snapshot")
        r.publish("timestamp")
        assert c.refresh() == 1
        assert c.version(role) == 3

    return run


for title in ("snapshot", "targets"):
    for hashed in (False, True):
        what = "with hashes" if hashed else "by version"
        case(f"rollback: an older {title}, named {what}, is refused")(_rollback(title, hashed))


@case("rollback: an older delegated role is refused")
def _(r: TufRepository, c: Client) -> None:
    r.delegate("targets", "a")
    r.add("file", b"content", "a")
    r.all("a", "targets")
    r.all("a")
    c.init()
    assert c.download("file") == 0
    r.roles["a"].version = 0
    r.all("a")
    assert c.refresh() == 1


def _removed(role: str) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        r.delegate("targets", "a")
        r.all("a", "targets")
        c.init()
        assert c.refresh() == 0
        del r.roles["snapshot"].meta[f"{role}.json"]
        r.all()
        assert c.refresh() == 1
        assert c.version("snapshot") == 2

    return run


for title in ("targets", "a"):
    case(f"rollback: {title} that vanished from the snapshot is refused")(_removed(title))


@case("rollback: a root that is not the next one is refused")
def _(r: TufRepository, c: Client) -> None:
    r.roles["root"].version = 3
    data = r.sign("root").to_bytes(JSONSerializer())
    r.files["/metadata/2.root.json"] = data
    c.init()
    assert c.refresh() == 1
    assert c.version("root") == 1


def _recovery(role: str, rotated: tuple[str, ...]) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        r.roles[role].version = 99
        r.publish(role)
        r.all()
        if role == "timestamp":
            r.roles["timestamp"].version = 99_998
            r.publish("timestamp")
        c.init()
        assert c.refresh() == 0
        high = c.version(role)
        assert high is not None
        assert high >= 100
        for name in rotated:
            r.rotate(name)
        r.publish("root")
        r.roles[role].version = 0
        if role == "timestamp":
            r.publish("snapshot", "timestamp")
        else:
            r.publish(role)
            r.all() if role == "targets" else r.publish("timestamp")
        assert c.refresh() == 0
        assert c.version(role) == 1

    return run


case("recovery: a fast-forwarded timestamp, by new timestamp keys")(_recovery("timestamp", ("timestamp",)))
case("recovery: a fast-forwarded snapshot, by new snapshot and timestamp keys")(
    _recovery("snapshot", ("snapshot", "timestamp"))
)
case("recovery: fast-forwarded targets, by new snapshot keys")(_recovery("targets", ("snapshot", "timestamp")))


# --- keys and thresholds --------------------------------------------------------------------------------------------


def _threshold(keys: int, threshold: int, signatures: int, code: int) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        for _ in range(keys - 1):
            r.key("snapshot")
        r.roles["root"].roles["snapshot"].threshold = threshold
        r.signers["snapshot"] = r.signers["snapshot"][:signatures]
        r.all("root")
        c.init()
        assert c.refresh() == code
        assert c.version("snapshot") == (2 if code == 0 else None)

    return run


for keys, threshold, signatures, code in ((3, 2, 2, 0), (3, 2, 1, 1), (3, 3, 3, 0), (5, 5, 4, 1), (4, 6, 4, 1)):
    case(f"keys: {signatures} signatures of {keys} keys at threshold {threshold}")(
        _threshold(keys, threshold, signatures, code)
    )


@case("keys: two signatures under one key's id are no metadata")
def _(r: TufRepository, c: Client) -> None:
    r.edit("timestamp", lambda v: v["signatures"].append(dict(v["signatures"][0])))
    c.init()
    assert c.refresh() == 1


@case("keys: signatures of strangers beside good ones do no harm")
def _(r: TufRepository, c: Client) -> None:
    r.signers["timestamp"].append(CryptoSigner.generate_ed25519())
    r.publish("timestamp")
    c.init()
    assert c.refresh() == 0


@case("keys: a role named in root with keys that root does not hold is no root")
def _(r: TufRepository, c: Client) -> None:
    r.roles["root"].version += 1
    r.edit("root", lambda v: v["signed"]["roles"]["snapshot"]["keyids"].append("0" * 64))
    c.init()
    assert c.refresh() == 1


@case("keys: fields about hash algorithms of a key are passed over")
def _(r: TufRepository, c: Client) -> None:
    root = r.roles["root"]
    root.keys[root.roles["snapshot"].keyids[0]].unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    r.all("root")
    c.init()
    assert c.refresh() == 0


@case("keys: a root with a key of a type that is not known is not taken, and what was trusted stays")
def _(r: TufRepository, c: Client) -> None:
    r.roles["root"].add_key(SSlibKey("1" * 64, "quantum", "quantum", {"public": "00"}), "timestamp")
    r.all("root")
    c.init()
    assert c.refresh() == 1
    assert c.version("root") == 1


def _key_type(make: Callable[[], Any]) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        signer = make()
        for role in ("timestamp", "snapshot", "targets"):
            for keyid in list(r.roles["root"].roles[role].keyids):
                r.roles["root"].revoke_key(keyid, role)
            r.signers[role] = []
            r.key(role, signer=signer)
        r.all("root", "targets")
        c.init()
        assert c.refresh() == 0

    return run


for title, make in (
    ("Ed25519", CryptoSigner.generate_ed25519),
    ("ECDSA P-256", CryptoSigner.generate_ecdsa),
    ("RSA-PSS", CryptoSigner.generate_rsa),
):
    case(f"keys: {title}")(_key_type(make))


# --- root rotations: (keys, threshold, signatures) of each version, and whether the last one is followed ------------

ROTATIONS: dict[str, tuple[list[tuple[str, int, str]], bool]] = {
    "one key for another, both sign": ([("1", 1, "1"), ("2", 1, "12"), ("2", 1, "2")], True),
    "with signatures of strangers": ([("1", 1, "314"), ("2", 1, "3214"), ("2", 1, "324")], True),
    "3 of 5 in changing combinations": ([("01234", 3, "024"), ("01234", 3, "041"), ("01234", 3, "013")], True),
    "one of five replaced": ([("01234", 3, "024"), ("01345", 3, "0415")], True),
    "one of five replaced, step by step": ([("01234", 3, "024"), ("01345", 3, "0245"), ("01345", 3, "045")], True),
    "all of five replaced": ([("01234", 3, "024"), ("56789", 3, "024567"), ("56789", 3, "567")], True),
    "threshold raised": ([("123", 1, "1"), ("123", 2, "12")], True),
    "threshold lowered": ([("123", 2, "12"), ("123", 1, "12"), ("123", 1, "1")], True),
    "a second key and both wanted": ([("1", 1, "1"), ("12", 2, "12")], True),
    "not signed by the old key": ([("1", 1, "1"), ("2", 1, "234")], False),
    "not signed by the new key": ([("1", 1, "1"), ("2", 1, "134")], False),
    "too few new keys": ([("01234", 3, "024"), ("01345", 3, "024")], False),
    "too few old keys": ([("01234", 3, "024"), ("01345", 3, "045")], False),
    "raised threshold not met": ([("123", 1, "1"), ("123", 2, "2")], False),
    "old threshold not met while it is lowered": ([("123", 2, "12"), ("123", 1, "1")], False),
}
KEYS = [CryptoSigner.generate_ed25519() for _ in range(10)]


def _rotation(versions: list[tuple[str, int, str]], followed: bool) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        root: Root = r.roles["root"]
        root.version = 0
        written = []
        for keys, threshold, signatures in versions:
            for keyid in list(root.roles["root"].keyids):
                root.revoke_key(keyid, "root")
            for digit in keys:
                root.add_key(KEYS[int(digit)].public_key, "root")
            root.roles["root"].threshold = threshold
            root.version += 1
            data = r.sign("root", [KEYS[int(digit)] for digit in signatures]).to_bytes(JSONSerializer())
            r.put("root", data)
            written.append(data)
        assert c.init() == 0
        assert c.refresh() == (0 if followed else 1)
        assert (c.cache / "root.json").read_bytes() == written[-1 if followed else -2]

    return run


for title, (versions, followed) in ROTATIONS.items():
    case(f"root rotation: {title}")(_rotation(versions, followed))

OTHERS: dict[str, tuple[str, int, str, bool]] = {
    "another key": ("2", 1, "2", True),
    "strangers' signatures too": ("1", 1, "314", True),
    "not signed by the new key": ("2", 1, "134", False),
    "a signature of a key that left": ("01345", 3, "024", False),
    "threshold not met": ("01345", 3, "04", False),
    "3 of 5": ("01234", 3, "024", True),
    "3 of 5, others": ("01234", 3, "234", True),
}


def _other_rotation(role: str, keys: str, threshold: int, signatures: str, followed: bool) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        c.init()
        assert c.refresh() == 0
        for keyid in list(r.roles["root"].roles[role].keyids):
            r.roles["root"].revoke_key(keyid, role)
        for digit in keys:
            r.roles["root"].add_key(KEYS[int(digit)].public_key, role)
        r.roles["root"].roles[role].threshold = threshold
        r.signers[role] = [KEYS[int(digit)] for digit in signatures]
        r.all("root", "targets")
        assert c.refresh() == (0 if followed else 1)
        assert c.version(role) == (2 if followed else 1)

    return run


for role in ("timestamp", "snapshot", "targets"):
    for title, (keys, threshold, signatures, followed) in OTHERS.items():
        case(f"{role} rotation: {title}")(_other_rotation(role, keys, threshold, signatures, followed))


# --- targets --------------------------------------------------------------------------------------------------------

PATHS = [
    "file.txt", "path/to/a/file.txt", "with space.txt", "ümläut.bin", "100%25.txt", "a+b=c&d,e;f.txt", "[x]{y}.txt",
    "it's.txt", "~tilde", "a:b.txt", "@at", "deep/" * 20 + "x",
]  # fmt: skip


def _path(path: str) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        r.add(path, b"content of it")
        r.all("targets")
        for name, data in list(r.files.items()):  # as a web server finds it, whose files have no escapes in their names
            if name.startswith("/targets/") and isinstance(data, bytes):
                r.files[name.replace("%25", "%")] = data
        c.init()
        assert c.refresh() == 0
        assert c.bytes() == []
        assert c.download(path) == 0
        assert c.bytes() == [b"content of it"]

    return run


for path in PATHS:
    case(f"target: {path[:24]}")(_path(path))


@case("target: fetched under its hash, and again from the cache without asking")
def _(r: TufRepository, c: Client) -> None:
    info = r.add("a/file", b"content")
    r.all("targets")
    c.init()
    assert c.download("a/file") == 0
    assert r.asked[-1] == f"/targets/a/{info.hashes['sha256']}.file"
    assert c.download("a/file") == 0
    assert not any(path.startswith("/targets/") for path in r.asked)


@case("target: several in one call")
def _(r: TufRepository, c: Client) -> None:
    for number in range(3):
        r.add(f"file-{number}", f"content {number}".encode())
    r.all("targets")
    c.init()
    assert c.download("file-0", "file-1", "file-2") == 0
    assert sorted(c.bytes()) == [b"content 0", b"content 1", b"content 2"]


@case("target: other bytes of the same length, fewer, and more are refused")
def _(r: TufRepository, c: Client) -> None:
    info = r.add("file", b"content")
    r.all("targets")
    path = f"/targets/{info.hashes['sha256']}.file"
    c.init()
    for data in (b"malware", b"cont", b"content and more", b"x" * 10_000_000, 404):
        r.files[path] = data  # type: ignore[assignment]  # bytes or a status
        assert c.download("file") == 1
        assert c.bytes() == []


@case("target: substituted bytes do not replace what is cached")
def _(r: TufRepository, c: Client) -> None:
    info = r.add("file", b"content")
    r.all("targets")
    c.init()
    c.download("file")
    r.files[f"/targets/{info.hashes['sha256']}.file"] = b"malware"
    c.download("file")
    assert c.bytes() == [b"content"]


@case("target: a changed one replaces the old one under the same name, ten times")
def _(r: TufRepository, c: Client) -> None:
    c.init()
    for number in range(10):
        r.add("file", f"content {number}".encode())
        r.all("targets")
        if number % 3 == 0:
            assert c.download("file") == 0
            assert c.bytes() == [f"content {number}".encode()]


@case("target: SHA-512 alone")
def _(r: TufRepository, c: Client) -> None:
    r.add("file", b"content", algorithms=["sha512"])
    r.all("targets")
    c.init()
    assert c.download("file") == 0


@case("target: an unknown hash alone is refused")
def _(r: TufRepository, c: Client) -> None:
    info = r.add("file", b"content")
    info.hashes = {"sha999": "00"}
    r.files["/targets/00.file"] = b"content"
    r.all("targets")
    c.init()
    assert c.download("file") == 1


@case("target: empty")
def _(r: TufRepository, c: Client) -> None:
    r.add("file", b"")
    r.all("targets")
    c.init()
    assert c.download("file") == 0
    assert c.bytes() == [b""]


@case("target: of 3 MB")
def _(r: TufRepository, c: Client) -> None:
    r.add("file", b"abc" * 1_000_000)
    r.all("targets")
    c.init()
    assert c.download("file") == 0


@case("target: without consistent snapshots names carry neither version nor hash")
def _(r: TufRepository, c: Client) -> None:
    r.roles["root"].consistent_snapshot = False
    r.publish("root")
    r.add("file", b"content")
    r.all("targets")
    c.init()
    assert c.download("file") == 0
    assert r.asked[-3:] == ["/metadata/snapshot.json", "/metadata/targets.json", "/targets/file"]


# --- delegations: (delegator, role, options) …, roles visited in order ----------------------------------------------

GRAPHS: dict[str, tuple[list[tuple[str, str, dict[str, Any]]], str]] = {
    "one": ([("targets", "A", {})], "A"),
    "two": ([("targets", "A", {}), ("targets", "B", {})], "AB"),
    "two levels": ([("targets", "A", {}), ("targets", "B", {}), ("B", "C", {})], "ABC"),
    "depth before breadth": (
        [("targets", "A", {}), ("targets", "B", {}), ("A", "C", {}), ("A", "D", {})],
        "ACDB",
    ),
    "three levels": ([("targets", "A", {}), ("targets", "B", {}), ("A", "C", {}), ("C", "D", {})], "ACDB"),
    "terminating": (
        [("targets", "A", {}), ("targets", "B", {}), ("A", "C", {"terminating": True}), ("A", "D", {})],
        "AC",
    ),
    "terminating, with descendants": (
        [("targets", "A", {}), ("targets", "B", {}), ("A", "C", {"terminating": True}), ("C", "D", {})],
        "ACD",
    ),
    "paths that do not match": (
        [("targets", "A", {"paths": ["*.py"]}), ("targets", "B", {}), ("A", "C", {})],
        "B",
    ),
    "paths that do not match below": (
        [("targets", "A", {}), ("targets", "B", {}), ("A", "C", {"paths": ["*.py"]}), ("C", "D", {})],
        "AB",
    ),
    "a circle": (
        [("targets", "A", {}), ("targets", "B", {}), ("B", "C", {}), ("C", "D", {}), ("D", "B", {})],
        "ABCD",
    ),
    "a diamond": ([("targets", "A", {}), ("targets", "B", {}), ("B", "C", {}), ("A", "C", {})], "ACB"),
    "a diamond with one side closed": (
        [("targets", "A", {}), ("targets", "B", {}), ("B", "C", {}), ("A", "C", {"paths": ["*.py"]})],
        "ABC",
    ),
    "a chain of 30": (
        [(("targets", *map(str, range(30)))[n], str(n), {}) for n in range(30)],
        " ".join(map(str, range(30))),
    ),
}


def _graph(edges: list[tuple[str, str, dict[str, Any]]], visited: str) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        for by, name, options in edges:
            r.delegate(by, name, **options)
        r.all(*dict.fromkeys(name for _, name, _ in edges), "targets")
        c.init()
        assert c.download("missing") == 1
        order = visited.split() if " " in visited else list(visited)
        assert r.asked[4:] == [f"/metadata/1.{name}.json" for name in order]

    return run


for title, (edges, visited) in GRAPHS.items():
    case(f"delegations: {title}")(_graph(edges, visited))

SEARCH = {
    "file": (b"targets", ""), "README.md": (b"A", "A"), "r/x/x1": (b"C", "BC"), "r/y/y1.zip": (b"D", "BD"),
    "r/z/z1.zip": (None, "B"),
}  # fmt: skip


def _search(path: str, content: bytes | None, visited: str) -> Case:
    def run(r: TufRepository, c: Client) -> None:
        r.delegate("targets", "A", paths=["*.doc", "*.md"])
        r.delegate("targets", "B", paths=["r/*/*"])
        r.delegate("B", "C", paths=["r/x/*"])
        r.delegate("B", "D", paths=["r/y/*.zip"])
        for name, role in (
            ("file", "targets"),
            ("README.md", "A"),
            ("r/x/x1", "C"),
            ("r/y/y1.zip", "D"),
            ("r/z/z1.zip", "D"),
        ):
            r.add(name, role.encode(), role)
        r.all("A", "B", "C", "D", "targets")
        c.init()
        assert c.download(path) == (1 if content is None else 0)
        assert c.bytes() == ([] if content is None else [content])
        asked = [one for one in r.asked[4:] if one.startswith("/metadata")]
        assert asked == [f"/metadata/1.{name}.json" for name in visited]

    return run


for path, (content, visited) in SEARCH.items():
    case(f"delegations: {path} is {'found' if content else 'not found'} by way of {visited or 'nobody'}")(
        _search(path, content, visited)
    )


@case("delegations: a role that nobody signed for is not used")
def _(r: TufRepository, c: Client) -> None:
    r.delegate("targets", "a")
    r.add("file", b"content", "a")
    r.signers["a"] = [CryptoSigner.generate_ed25519()]
    r.all("a", "targets")
    c.init()
    assert c.download("file") == 1


@case("delegations: a threshold of two that one signed is not met")
def _(r: TufRepository, c: Client) -> None:
    r.signers["a"] = [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()]
    r.delegate("targets", "a", threshold=2)
    r.add("file", b"content", "a")
    r.signers["a"].pop()
    r.all("a", "targets")
    c.init()
    assert c.download("file") == 1


@case("delegations: a cached role is held against who delegates to it today")
def _(r: TufRepository, c: Client) -> None:
    r.delegate("targets", "a")
    r.add("file", b"content", "a")
    r.all("a", "targets")
    c.init()
    assert c.download("file") == 0
    r.signers["a"] = [CryptoSigner.generate_ed25519()]
    r.roles["targets"].delegations = None
    r.delegate("targets", "a")  # other keys from now on, and the role not signed again
    r.all("targets")
    r.add("second", b"second", "a")
    assert c.download("file") in (0, 1)  # the artifact itself is in the cache
    c.fetched.joinpath("file").unlink(missing_ok=True)
    assert c.download("file") == 1


@case("delegations: by the hash of the path")
def _(r: TufRepository, c: Client) -> None:
    digest = hashlib.sha256(b"file").hexdigest()
    r.delegate("targets", "a", prefixes=[digest[:2]])
    r.delegate("targets", "b", prefixes=[f"{255 - int(digest[:2], 16):02x}"])
    r.add("file", b"content", "a")
    r.all("a", "b", "targets")
    c.init()
    assert c.download("file") == 0
    assert not any("1.b.json" in path for path in r.asked)


@case("delegations: succinct hash bins")
def _(r: TufRepository, c: Client) -> None:
    bins = r.bins(4)
    for number in range(20):
        r.add(f"file-{number}", f"content {number}".encode(), bins.get_role_for_target(f"file-{number}"))
    r.all(*bins.get_roles(), "targets")
    c.init()
    assert c.download("file-7") == 0
    assert [path for path in r.asked if "bin" in path] == [f"/metadata/1.{bins.get_role_for_target('file-7')}.json"]


for odd in ("?", "#", "/delegatedrole", "../delegatedrole", "a b", "ü", "%2e%2e"):

    @case(f"delegations: a role of the name {odd}")
    def _(r: TufRepository, c: Client, name: str = odd) -> None:
        r.delegate("targets", name)
        r.add("file", b"content", name)
        r.all(name, "targets")
        c.init()
        assert c.download("file") == 0
        assert f"/metadata/1.{quote(name, '')}.json" in r.asked
        inside = [path for path in c.folder.rglob("*delegatedrole*") if path.parent != c.cache]
        assert inside == []
        assert len(list(c.cache.glob("*.json"))) == 5


@pytest.mark.parametrize("name", CASES)
def test_client(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = TufRepository()
    with repository.served() as url:
        CASES[name](repository, Client(tmp_path, url, repository, monkeypatch))


def test_the_table_is_as_large_as_the_documentation_says() -> None:
    text = (Path(__file__).resolve().parents[4] / "docs" / "guides" / "deploy.md").read_text()
    assert f"{len(CASES)} cases" in text
