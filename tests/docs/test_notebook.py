"""The notebook runs from top to bottom, and forecasts the hours that its picture shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "dataframe.py"
BEFORE = "import matplotlib.pyplot as plt"


def test_it_runs_and_draws(tmp_path: Path) -> None:
    for name in ("torch", "pandas", "matplotlib"):
        pytest.importorskip(name, reason="the notebook exports a base and draws")
    given = {**os.environ, "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, SOURCE], cwd=tmp_path, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = re.findall(r"^ *B3-\d+ +(\S+ \S+) +(\S+) +(\S+) +(\S+)$", done.stdout, re.MULTILINE)
    assert len(rows) == 6
    assert all(float(low) < float(median) < float(high) for _, median, low, high in rows)
    assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")
    off = dict(re.findall(r"^(frozen base|persistence) +(\S+)$", done.stdout, re.MULTILINE))
    assert float(off["frozen base"]) > 0
    assert float(off["persistence"]) > 0


def test_it_takes_ten_lines_from_a_frame_to_a_picture() -> None:
    first = SOURCE.read_text().split("# %%\n")[1].split("# %% [markdown]")[0]
    lines = [line for line in first.splitlines() if line and not re.match(r"(import|from) ", line)]
    assert BEFORE in first
    assert len(lines) <= 10
