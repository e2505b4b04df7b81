"""``edge-tsfm-device tuf-conformance`` as the public suite calls it: exit statuses, file names, and its main cases.

The suite itself (theupdateframework/tuf-conformance) runs the same command from outside:
``pytest tuf_conformance --entrypoint "edge-tsfm-device tuf-conformance"``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from device_runtime.cli import cli
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from tests.simulators.fleet import served
from tests.simulators.publisher import EVERYBODY, approve_version, make_repository

TARGET = "rollout/icu.json"


class Client:
    """The command with its folders, and the repository it reads."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.public = folder / "repository" / "public"
        self.cache, self.targets = folder / "cache", folder / "fetched"

    def __call__(self, *command: object, target: str = TARGET) -> int:
        options = [
            "--metadata-url",
            f"{self.url}/metadata/",
            "--metadata-dir",
            str(self.cache),
            "--target-name",
            target,
        ]
        options += ["--target-base-url", f"{self.url}/targets/", "--target-dir", str(self.targets)]
        return CliRunner().invoke(cli, ["tuf-conformance", *options, *map(str, command)]).exit_code

    def init(self) -> int:
        return self("init", self.public / "metadata" / "1.root.json")

    def publisher(self) -> Repository:
        return Repository(self.folder / "repository", self.folder / "keys", now=datetime.now(UTC))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    repository = make_repository(tmp_path, now=datetime.now(UTC))
    rings.start(repository, "icu", approve_version(repository, 1).file, EVERYBODY, who="ops")
    with served(repository.folder / "public") as (url, _):
        yield Client(tmp_path, url)


def test_init_refresh_download_keep_files_under_names_without_versions(client: Client) -> None:
    assert client.init() == 0
    assert client("refresh") == 0
    assert {"root.json", "timestamp.json", "snapshot.json", "targets.json"} <= {p.name for p in client.cache.iterdir()}
    assert client("download") == 0
    assert [path.read_bytes() for path in client.targets.rglob("*") if path.is_file()] == [
        path.read_bytes() for path in (client.public / "targets" / "rollout").iterdir()
    ]


def test_a_second_download_comes_from_the_cache(client: Client) -> None:
    client.init()
    assert client("download") == 0
    shutil.rmtree(client.public / "targets")
    assert client("download") == 0


def test_a_target_that_nobody_signed_is_refused(client: Client) -> None:
    client.init()
    assert client("download", target="rollout/other.json") == 1


def test_an_unsigned_root_is_refused(client: Client) -> None:
    root = client.public / "metadata" / "1.root.json"
    value = json.loads(root.read_bytes())
    value["signatures"] = []
    (client.folder / "bad.json").write_text(json.dumps(value))
    assert client("init", client.folder / "bad.json") == 1


def _edit(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    value = json.loads(path.read_bytes())
    change(value["signed"])
    path.write_text(json.dumps(value))


def _metadata(client: Client, name: str) -> Path:
    return max((client.public / "metadata").glob(f"*{name}.json"))


DAMAGE: dict[str, Callable[[Client], object]] = {
    "timestamp edited": lambda c: _edit(_metadata(c, "timestamp"), lambda s: s.update(version=99)),
    "snapshot edited": lambda c: _edit(_metadata(c, "snapshot"), lambda s: s.update(version=99)),
    "targets edited": lambda c: _edit(_metadata(c, "targets"), lambda s: s.update(expires="2999-01-01T00:00:00Z")),
    "wrong type": lambda c: _edit(_metadata(c, "timestamp"), lambda s: s.update(_type="snapshot")),
    "timestamp missing": lambda c: _metadata(c, "timestamp").unlink(),
    "snapshot missing": lambda c: _metadata(c, "snapshot").unlink(),
    "no JSON": lambda c: _metadata(c, "timestamp").write_bytes(b"{"),
    "endless": lambda c: _metadata(c, "timestamp").write_bytes(b" " * 100_000_000),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_metadata_are_refused(client: Client, damage: str) -> None:
    client.init()
    DAMAGE[damage](client)
    assert client("refresh") == 1


def test_a_target_with_other_bytes_is_refused(client: Client) -> None:
    client.init()
    for path in (client.public / "targets" / "rollout").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b" ")
    assert client("download") == 1
    assert [path for path in client.targets.rglob("*") if path.is_file()] == []


def test_an_old_repository_is_refused_by_a_client_that_saw_a_newer_one(client: Client) -> None:
    shutil.copytree(client.public, client.folder / "old")
    client.init()
    rings.halt(client.publisher(), "icu", who="ops", why="test")
    assert client("refresh") == 0
    shutil.rmtree(client.public)
    shutil.copytree(client.folder / "old", client.public)
    assert client("refresh") == 1


def test_expired_metadata_are_refused(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, now=datetime.now(UTC) - timedelta(days=30))
    with served(repository.folder / "public") as (url, _):
        client = Client(tmp_path, url)
        client.init()
        assert client("refresh") == 1


def test_a_rotated_root_is_followed(client: Client) -> None:
    from edge_tsfm.deploy.setup import rotate_key
    from edge_tsfm.deploy.signers import make_file_key

    client.init()
    repository = client.publisher()
    old = repository.refs("root")[0].keyid
    rotate_key(repository, "root", old, make_file_key(repository.keys, "root-4"))
    assert client("refresh") == 0
    assert json.loads((client.cache / "root.json").read_bytes())["signed"]["version"] == 2
