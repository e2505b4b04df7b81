"""Build the Debian package of the device from a wheelhouse; needs dpkg-deb, and no network.

    python distribution/wheelhouse.py --arch x86_64 --python 3.11
    python distribution/debian.py dist/wheelhouse/x86_64-cp311 --out dist

The package brings the tested versions of numpy and ONNX Runtime in /usr/lib/edge-tsfm-device: Debian's are older or
absent, and other programs of a monitor must not change them (docs/adr/0033). It needs the version of Python that its
wheels are for. Wheels are unpacked and nothing in them is run, so a package for ARM can be built on any machine.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import wheelhouse
from wheels import TREE, released

from device_runtime import __version__

NAME = "edge-tsfm-device"
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
FOLDER = re.compile(r"(x86_64|aarch64)-cp(3)(\d+)")
LIBRARIES = Path("usr/lib", NAME)
LAUNCHER = f"""#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/{LIBRARIES}")
from device_runtime.cli import main

main()
"""
# Without byte code each start by a user other than root would compile every module again.
SCRIPTS = {
    "postinst": f'#!/bin/sh\nset -e\n[ "$1" != configure ] || py3compile -p {NAME} /{LIBRARIES}\n',
    "prerm": f"#!/bin/sh\nset -e\npy3clean -p {NAME}\n",
}
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: edge-tsfm
Comment: The Python packages below /usr/lib/edge-tsfm-device are unchanged wheels;
 the licence of each is in its .dist-info folder there.

Files: *
Copyright: the contributors to edge-tsfm
License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
"""


def build(house: Path, out: Path) -> Path:
    """Build the package from the wheels of ``house`` and return it."""
    named = FOLDER.fullmatch(house.name)
    if named is None:
        raise SystemExit(f"debian.py: error: {house}: want a folder that distribution/wheelhouse.py made")
    arch, python = named[1], f"{named[2]}.{named[3]}"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        unpack(house, root / LIBRARIES, wheelhouse.target(arch, python))
        write(root / "usr/bin" / NAME, LAUNCHER, mode=0o755)
        document(root)
        describe(root, DEBIAN[arch], python)
        for path in (root, *root.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        out.mkdir(parents=True, exist_ok=True)
        package = out / f"{NAME}_{__version__}_{DEBIAN[arch]}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", str(root), str(package)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": released()}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return package


def unpack(house: Path, into: Path, target: list[str]) -> None:
    """Unpack the wheels into ``into``, each checked against its digest, without running anything in them."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-index", "--find-links", str(house), "--require-hashes", "--requirement", "requirements.txt"]
    subprocess.run([*command, *target, "--target", str(into)], check=True, cwd=house)
    shutil.rmtree(into / "bin")  # launchers with the path of this machine's Python
    for path in into.rglob("*"):
        if path.is_file():
            path.chmod(0o644)


def document(root: Path) -> None:
    """Write manual pages, completion for bash, copyright and changes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "distribution/manpages.py", "--command", NAME, "--out", folder]
        subprocess.run(command, check=True, cwd=TREE, env={**os.environ, "PYTHONPATH": str(TREE)})
        for page in sorted(Path(folder).glob("*.1")):
            compress(root / "usr/share/man/man1" / f"{page.name}.gz", page.read_bytes())
    completion = "from device_runtime.cli import cli; cli(prog_name='edge-tsfm-device')"
    environment = {**os.environ, "PYTHONPATH": str(TREE), "_EDGE_TSFM_DEVICE_COMPLETE": "bash_source"}
    done = subprocess.run(
        [sys.executable, "-c", completion], env=environment, capture_output=True, text=True, check=True
    )
    write(root / "usr/share/bash-completion/completions" / NAME, done.stdout)
    write(root / "usr/share/doc" / NAME / "copyright", COPYRIGHT)
    compress(root / "usr/share/doc" / NAME / "changelog.gz", (TREE / "CHANGELOG.md").read_bytes())


def describe(root: Path, architecture: str, python: str) -> None:
    """Write what dpkg reads: control, the scripts, a digest of every file."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    digests = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files)  # noqa: S324 - dpkg's format
    write(root / "DEBIAN/md5sums", "".join(digests))
    major, minor = map(int, python.split("."))
    facts = {
        "Package": NAME,
        "Version": __version__,
        "Architecture": architecture,
        "Maintainer": "edge-tsfm maintainers <maintainers@edge-tsfm.invalid>",
        "Installed-Size": str(sum(path.stat().st_size for path in files) // 1024 + 1),  # KiB
        "Depends": f"python3 (>= {python}), python3 (<< {major}.{minor + 1}), libc6 (>= 2.28), libstdc++6",
        "Section": "science",
        "Priority": "optional",
        "Description": "forecasts vital signs on a bedside monitor\n"
        " Opens a frozen base and an adapter of a few kilobytes, checks that they belong\n"
        " together, merges them, runs the known-answer test that the adapter carries, and\n"
        " only then forecasts. It never alarms, and it is not a medical device.",
    }
    write(root / "DEBIAN/control", "".join(f"{name}: {value}\n" for name, value in facts.items()))
    for name, text in SCRIPTS.items():
        write(root / "DEBIAN" / name, text, mode=0o755)


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file of the package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def compress(path: Path, data: bytes) -> None:
    """Write a compressed file of the package; the same bytes give the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    path.chmod(0o644)


def main() -> None:
    """Build one package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("house", type=Path, help="folder of wheels that wheelhouse.py made")
    parser.add_argument("--out", type=Path, default=TREE / "dist", help="folder for the package")
    given = parser.parse_args()
    package = build(given.house, given.out)
    print(f"{package}: {package.stat().st_size / 1e6:.0f} MB")  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
