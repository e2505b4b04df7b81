"""Fixtures: a monitor with two confirmed adapters, and a repository of its own."""

import shutil
from pathlib import Path

import pytest

from device_runtime.update.lifecycle import State
from tests.simulators.bed import CONTEXT, Bed
from tests.simulators.publisher import BUNDLE, make_device, make_repository


@pytest.fixture(scope="session")
def confirmed_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository, a bundle of its own and a monitor on which versions 1 and 2 were confirmed."""
    folder = tmp_path_factory.mktemp("beds")
    repository = make_repository(folder)
    make_device(folder / "bed", repository, "bed")
    shutil.copytree(BUNDLE, folder / "bundle")
    bed = Bed(folder)
    for version in (1, 2):
        bed.offer(version)
        assert bed.poll().action == "trial"
        bed.host().forecast(CONTEXT)
    assert (bed.record.state, bed.versions) == (State.CONFIRMED, [2, 1])
    return folder


@pytest.fixture
def bed(confirmed_twice: Path, tmp_path: Path) -> Bed:
    """A monitor that the test may do anything to."""
    copy = tmp_path / "copy"
    shutil.copytree(confirmed_twice, copy, symlinks=True)
    path = copy / "bed" / "device.toml"
    text = path.read_text().replace(str(confirmed_twice), str(copy))
    path.write_text(text.replace(str(BUNDLE), str(copy / "bundle")))
    return Bed(copy)
