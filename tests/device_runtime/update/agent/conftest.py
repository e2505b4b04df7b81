"""A monitor beside a published repository, and a bed beside its publisher."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("tuf") is not None:  # else none of these tests is collected: see the folder above
    from edge_tsfm.deploy import rings
    from tests.simulators.monitor import Monitor
    from tests.simulators.publisher import EVERYBODY, approve_version, make_repository
    from tests.simulators.server import Bed
    from tests.simulators.tuf_repository import TufRepository
    from tests.simulators.view import Viewer


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that offers version 1 to everybody; each test works on a copy."""
    folder = tmp_path_factory.mktemp("published")
    repository = make_repository(folder)
    approval = approve_version(repository, 1)
    rings.start(repository, "icu", approval.file, EVERYBODY, who="ops")
    return folder


@pytest.fixture
def monitor(published: Path, tmp_path: Path) -> Monitor:
    shutil.copytree(published, tmp_path / "copy")
    return Monitor(tmp_path / "copy")


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


@pytest.fixture
def made() -> TufRepository:
    return TufRepository()


@pytest.fixture
def viewer(tmp_path: Path, made: TufRepository) -> Iterator[Viewer]:
    with made.served() as url:
        yield Viewer(tmp_path, url, made)
