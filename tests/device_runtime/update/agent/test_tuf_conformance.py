"""The public TUF conformance suite against the agent's client, and that client's protocol.

The suite is theupdateframework/tuf-conformance at one commit, in a checkout that ``TUF_CONFORMANCE`` names. What a TUF
client must do is the suite's to say; the other tests show that `tests.simulators.tuf_client` answers as the suite asks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from edge_tsfm.deploy import rings
from tests.simulators import tuf_client
from tests.simulators.fleet import served
from tests.simulators.publisher import EVERYBODY, approve_version, make_repository

ROOT = Path(__file__).resolve().parents[4]
COMMIT = "eec841c"
CASES = 113  # of that commit
TARGET = "rollout/icu.json"


class Client:
    """The command with its folders, and the repository it reads."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.public = folder / "repository" / "public"
        self.cache, self.targets = folder / "cache", folder / "fetched"

    def __call__(self, *command: object, target: str = TARGET) -> int:
        options = {
            "--metadata-url": f"{self.url}/metadata/",
            "--metadata-dir": self.cache,
            "--target-name": target,
            "--target-base-url": f"{self.url}/targets/",
            "--target-dir": self.targets,
        }
        return tuf_client.main([*(str(part) for option in options.items() for part in option), *map(str, command)])

    def init(self) -> int:
        return self("init", self.public / "metadata" / "1.root.json")


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


def test_what_is_refused_ends_with_1(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    root = json.loads((client.public / "metadata" / "1.root.json").read_bytes())
    (client.folder / "unsigned.json").write_text(json.dumps(root | {"signatures": []}))
    assert client("init", client.folder / "unsigned.json") == 1
    client.init()
    assert client("download", target="rollout/other.json") == 1
    assert capsys.readouterr().err.endswith("RepositoryError: target rollout/other.json not found\n")
    for path in (client.public / "metadata").glob("*timestamp.json"):
        path.write_bytes(b"{")
    assert client("refresh") == 1


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_public_suite_passes(tmp_path: Path) -> None:
    checkout = os.environ.get("TUF_CONFORMANCE")
    if not checkout:
        pytest.skip("TUF_CONFORMANCE names no checkout of theupdateframework/tuf-conformance")
    if shutil.which("faketime") is None:
        pytest.skip("needs faketime, which the suite sets clocks with")
    asked = [shutil.which("git") or "git", "-C", checkout, "rev-parse", "HEAD"]
    head = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert head.stdout.startswith(COMMIT), f"{checkout}: want commit {COMMIT}"
    report = tmp_path / "report.xml"
    options = ["--entrypoint", f"{sys.executable} -m tests.simulators.tuf_client", "--junit-xml", report]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tuf_conformance", "-q", "-p", "no:cacheprovider", *options],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 - pytest's own file
    assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": CASES, "failures": 0, "errors": 0, "skipped": 0}
