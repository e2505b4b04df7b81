"""Monitors on which something that was learnt runs, as fixtures: each test has one of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulators.learning_bed import LearningBed


@pytest.fixture(scope="session")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> LearningBed:
    bed = LearningBed(tmp_path_factory.mktemp("promoted"))
    assert bed.until_own() <= 80
    return bed


@pytest.fixture
def own(promoted: LearningBed, tmp_path: Path) -> LearningBed:
    """A monitor of its own in the state that the promoted one was in."""
    bed = LearningBed(tmp_path, envelope=False)
    bed.host.close()
    for path in promoted.config.state.rglob("*"):
        if path.is_file():
            place = bed.config.state / path.relative_to(promoted.config.state)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    bed.host = bed.start()
    assert bed.host.runs_own
    return bed
