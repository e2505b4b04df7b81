"""Build the wheels of a release: `edge-tsfm-device` for the monitor, `edge-tsfm` for the workstation.

    python distribution/wheels.py --out dist

The tree's own pyproject.toml installs both halves at once, for work in a clone. A release is cut along the line that
import-linter holds (docs/adr/0033): each half is put beside its pyproject.toml in a folder of its own and built there,
so that no file of the other half, and nothing that an editor left behind, can get in. The device's is made lean first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lean

HERE = Path(__file__).resolve().parent
TREE = HERE.parent
HALVES = {"device": ("device_runtime",), "workstation": ("export", "edge_tsfm")}


def build(half: str, out: Path) -> Path:
    """Build one of the two wheels in ``out`` and return it. The same commit gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    environment = {"SOURCE_DATE_EPOCH": released(), **os.environ}
    with tempfile.TemporaryDirectory() as folder:
        stage(half, Path(folder) / "source")
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", f"{folder}/wheel"]
        subprocess.run([*command, f"{folder}/source"], check=True, env=environment, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("wheel/*.whl")
        return Path(shutil.copy(wheel, out))


def stage(half: str, folder: Path) -> None:
    """Copy the sources of one wheel into ``folder``."""
    folder.mkdir()
    shutil.copy(HERE / half / "pyproject.toml", folder)
    shutil.copy(TREE / "LICENSE", folder)
    readme = HERE / half / "README.md"
    shutil.copy(readme if readme.exists() else TREE / "README.md", folder)
    for package in HALVES[half]:
        shutil.copytree(TREE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    if half == "device":
        lean.thin(folder / "device_runtime")


def released() -> str:
    """Return the time of the commit, in seconds since 1970, for the time stamps of a build's files."""
    if found := os.environ.get("SOURCE_DATE_EPOCH"):
        return found
    command = ["git", "-C", str(TREE), "log", "-1", "--format=%ct"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Build both wheels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TREE / "dist", help="folder for the wheels")
    out = parser.parse_args().out
    for half in HALVES:
        wheel = build(half, out)
        print(f"{wheel}: {wheel.stat().st_size:,} bytes")  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
