"""The site builds without a warning, every page is in its navigation or linked, and it asks no other host."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MKDOCS = Path(os.environ.get("EDGE_TSFM_MKDOCS", ROOT / ".venv-docs" / "bin" / "mkdocs"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not MKDOCS.exists():
        pytest.skip(f"{MKDOCS} is not there: make docs installs it")
    out = tmp_path_factory.mktemp("site")
    given = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [MKDOCS, "build", "--strict", "--site-dir", out]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


@pytest.mark.slow
def test_pages_from_all_over_the_tree_are_there(site: Path) -> None:
    for name in (
        "index",
        "docs/guides/troubleshooting",
        "docs/guides/dataframe",
        "device_runtime/FORMAT",
        "docs/adr/index",
    ):
        assert (site / f"{name}.html").stat().st_size > 5000, name


@pytest.mark.slow
def test_the_api_and_the_options_are_the_codes(site: Path) -> None:
    api = (site / "docs/reference/api.html").read_text(encoding="utf-8")
    for name in (
        "edge_tsfm.api.train",
        "device_runtime.forecast.forecaster.Forecaster",
        "device_runtime.errors.MergeError",
    ):
        assert f'id="{name}"' in api, name
    options = (site / "docs/reference/options.html").read_text(encoding="utf-8")
    assert "--learning-rate" in options
    assert "edge-tsfm-device adapt status" in options


@pytest.mark.slow
def test_no_page_asks_another_host_or_shows_a_test_s_comment(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"(https?:[^\"]+)|<link rel=\"stylesheet\" href=\"(https?:[^\"]+)", text
        )
        assert loaded == [], page.name
        assert "<!-- not run" not in text, page.name


@pytest.mark.slow
def test_search_finds_an_error_by_its_number(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "troubleshooting.html#300" in index
