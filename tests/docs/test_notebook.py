"""The notebooks run from top to bottom, and print what their texts say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
SOURCE = GUIDES / "dataframe.py"
BEFORE = "import matplotlib.pyplot as plt"


def run(source: Path, folder: Path) -> str:
    """Run a notebook in ``folder`` and return what it prints."""
    for name in ("torch", "pandas", "matplotlib"):
        pytest.importorskip(name, reason="the notebook trains, exports or draws")
    given = {**os.environ, "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, source], cwd=folder, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_frame_becomes_a_picture(tmp_path: Path) -> None:
    said = run(SOURCE, tmp_path)
    rows = re.findall(r"^ *B3-\d+ +(\S+ \S+) +(\S+) +(\S+) +(\S+)$", said, re.MULTILINE)
    assert len(rows) == 6
    assert all(float(low) < float(median) < float(high) for _, median, low, high in rows)
    assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")
    off = dict(re.findall(r"^(frozen base|persistence) +(\S+)$", said, re.MULTILINE))
    assert float(off["frozen base"]) > 0
    assert float(off["persistence"]) > 0


def test_a_folder_becomes_a_verdict_and_a_page(tmp_path: Path) -> None:
    said = run(GUIDES / "folder.py", tmp_path)
    assert "500 files, such as B7-00000.psv" in said
    assert "MAP, a step every 1h, 500 series" in said
    assert re.search(r"^accepted: True; WQL \S+ % lower than the frozen base's", said, re.MULTILINE)
    genders = re.findall(r"^Gender ([01]): (\d+) patients, WQL [-+]\d", said, re.MULTILINE)
    assert [gender for gender, _ in genders] == ["0", "1"]
    losses = [float(loss) for loss in re.findall(r"^largest losses: B7-\d+ ([-+]\S+)%", said, re.MULTILINE)]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count(
        'class="readings"'
    ) == 8  # six patients, two curves


def test_a_run_becomes_a_device_that_reports(tmp_path: Path) -> None:
    said = run(GUIDES / "device.py", tmp_path)
    assert f"blob: {(tmp_path / 'map.etsa').stat().st_size:,} bytes" in said
    assert "refused, code 330: the adapter is for MAP" in said
    assert "rejected: 1" in said
    forecasts = re.findall(r"^in (\d) h: (\d+) mmHg, 80 % between (\d+) and (\d+)$", said, re.MULTILINE)
    assert [step for step, *_ in forecasts] == list("123456")
    assert all(int(low) < int(median) < int(high) for _, median, low, high in forecasts)
    assert re.search(r"^60 stays, [\d,]+ forecasts; (confirmed|taken back|still on trial)$", said, re.MULTILINE)


@pytest.mark.parametrize("name", ["dataframe", "folder", "device"])
def test_it_is_a_page_of_the_site(name: str) -> None:
    source = f"docs/guides/{name}.py"
    root = GUIDES.parents[1]
    assert f'"docs/guides/{name}.md": "{source}"' in (root / "docs" / "site" / "hooks.py").read_text(encoding="utf-8")
    assert f"docs/guides/{name}.md" in (root / "mkdocs.yml").read_text(encoding="utf-8")
    assert f"(guides/{name}.py)" in (root / "docs" / "index.md").read_text(encoding="utf-8")


def test_it_takes_ten_lines_from_a_frame_to_a_picture() -> None:
    first = SOURCE.read_text().split("# %%\n")[1].split("# %% [markdown]")[0]
    lines = [line for line in first.splitlines() if line and not re.match(r"(import|from) ", line)]
    assert BEFORE in first
    assert len(lines) <= 10
