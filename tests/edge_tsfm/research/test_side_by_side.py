"""The trainers that people use start from one base, see one split, and are scored alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_tsfm.research.side_by_side import WAYS

DUMMIES = Path(__file__).resolve().parents[2] / "dummy_bases"


@pytest.mark.slow
def test_every_way_trains_a_chronos_2_and_is_measured(make_ward, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "edge_tsfm.research.side_by_side", str(make_ward(200)), "--target", "HR", "--json",
        "--base", str(DUMMIES / "chronos-2"), "--steps", "12", "--batch-size", "16", "--n-frequency", "9",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found = {one["way"]: one for one in json.loads(done.stdout.splitlines()[-1])}
    assert list(found) == list(WAYS)
    base = found.pop("frozen base")
    for way, one in found.items():
        assert one["seconds"] > 0, way
        assert one["memory"] > one["before"] > 100, way
        assert one["wql"] < base["wql"], f"{way} learnt nothing"
