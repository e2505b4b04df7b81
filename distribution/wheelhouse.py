"""Collect the wheels for a monitor without a network: the device's and all that it requires, for one processor.

    python distribution/wheelhouse.py --arch aarch64 --python 3.11 --out dist/wheelhouse

leaves a folder `dist/wheelhouse/aarch64-cp311` of wheels and a `requirements.txt` with the SHA-256 of each. On the
monitor, in that folder, with the pip of its own environment:

    pip install --no-index --find-links . --require-hashes -r requirements.txt

Versions are those of constraints.txt. Wheels run where glibc is 2.28 or newer (Debian 10, Ubuntu 20.04, RHEL 8).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from email.parser import BytesParser
from pathlib import Path
from zipfile import ZipFile

import wheels

ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")  # pip accepts only the named tags


def fetch(arch: str, python: str, out: Path) -> Path:
    """Fill the folder for ``arch`` and Python ``python`` below ``out`` and return it. Needs a package index."""
    folder = out / f"{arch}-cp{python.replace('.', '')}"
    shutil.rmtree(folder, ignore_errors=True)  # or a wheel of an older version would remain beside the new one
    device = wheels.build("device", folder)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--constraint", str(wheels.TREE / "constraints.txt"), *target(arch, python), f"{device}[agent]"]
    subprocess.run(command, check=True)
    (folder / "requirements.txt").write_text("".join(map(pinned, sorted(folder.glob("*.whl")))))
    return folder


def target(arch: str, python: str) -> list[str]:
    """Return pip's options for wheels of another machine."""
    platforms = [f"--platform={tag}_{arch}" for tag in GLIBC]
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]


def pinned(wheel: Path) -> str:
    """Return the line that lets pip install exactly this file."""
    with ZipFile(wheel) as archive:
        (name,) = (entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        facts = BytesParser().parsebytes(archive.read(name), headersonly=True)
    return f"{facts['Name']}=={facts['Version']} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def main() -> None:
    """Fetch one folder, or one for each processor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, action="append", help="processor; default: each")
    parser.add_argument("--python", default="3.11", help="the monitor's version of Python")
    parser.add_argument("--out", type=Path, default=wheels.TREE / "dist" / "wheelhouse", help="parent of the folders")
    given = parser.parse_args()
    for arch in given.arch or ARCHITECTURES:
        folder = fetch(arch, given.python, given.out)
        size = sum(path.stat().st_size for path in folder.glob("*.whl"))
        print(f"{folder}: {size / 1e6:.0f} MB")  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
