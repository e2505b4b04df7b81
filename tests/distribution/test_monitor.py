"""What a monitor installs without a network, a Debian package and a container, each as it would be installed there.

They fetch from a package index and from Debian's archive through pip and mmdebstrap, and are skipped where these do not
answer. The container's base is made from Debian's archive too: no registry of images is asked.
"""

import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.distribution.conftest import ROOT, archive_of, fresh, need, run

DUMMY = ROOT / "tests" / "dummy_bases"
SELFTEST = ("selftest", "/tmp/chronos-bolt-bundle", "--adapter", "/tmp/chronos-bolt.etsa")  # noqa: S108 - in a chroot
SUITE = {(3, 11): "bookworm", (3, 13): "trixie"}  # Debian's release with this Python
MACHINE = {"x86_64": 62, "aarch64": 183}  # ELF's numbers
GROFF = shutil.which("groff")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_wheelhouse_is_for_its_processor(wheelhouse: Callable[[str], Path], arch: str) -> None:
    libraries = 0
    for wheel in wheelhouse(arch).glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                head = archive.open(name).read(20)
                if head.startswith(b"\x7fELF"):
                    libraries += 1
                    assert struct.unpack_from("<H", head, 18) == (MACHINE[arch],), f"{wheel.name}: {name}"
    assert libraries > 20


def test_a_monitor_installs_from_the_wheelhouse_alone(wheelhouse: Callable[[str], Path], tmp_path: Path) -> None:
    house = wheelhouse("x86_64")
    python = fresh(tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--find-links", "."]
    run(*pip, "--require-hashes", "-r", "requirements.txt", cwd=house)
    bundle, blob = DUMMY / "chronos-bolt-bundle", DUMMY / "chronos-bolt.etsa"
    said = run(python.parent / "edge-tsfm-device", "selftest", bundle, "--adapter", blob, cwd=tmp_path)
    assert "passed" in said
    heavy = "import importlib.util as u; print([n for n in ('torch', 'onnx', 'pandas', 'export') if u.find_spec(n)])"
    assert run(python, "-c", heavy, cwd=tmp_path) == "[]\n"


def test_a_wheel_that_was_changed_on_the_way_is_refused(wheelhouse: Callable[[str], Path], tmp_path: Path) -> None:
    for path in wheelhouse("x86_64").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (wheel,) = tmp_path.glob("click-*.whl")
    changed = wheel.read_bytes() + b"\0"
    wheel.unlink()
    wheel.write_bytes(changed)
    python = fresh(tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--find-links", "."]
    command = [*pip, "--require-hashes", "-r", "requirements.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


@pytest.fixture(scope="session")
def package(
    wheelhouse: Callable[[str], Path], script: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Build the Debian package for a processor, once."""
    need("dpkg-deb")
    made: dict[str, Path] = {}

    def build(arch: str) -> Path:
        if arch not in made:
            out = tmp_path_factory.mktemp("debian")
            script("debian.py", wheelhouse(arch), "--out", out)
            (made[arch],) = out.glob("*.deb")
        return made[arch]

    return build


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a minimal Debian with this Python from Debian's archive: a tar file."""
    need("mmdebstrap", "chroot")
    if (suite := SUITE.get(sys.version_info[:2])) is None:
        pytest.skip("no release of Debian is known to have this Python")
    archive = archive_of(suite)
    out = tmp_path_factory.mktemp("suite") / "root.tar"
    run("mmdebstrap", "--variant=minbase", "--include=python3", suite, out, archive)
    return out


@pytest.fixture
def chroot(debian: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Give a fresh Debian in which to run commands: ``chroot("dpkg", "--install", …)``."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    root = tmp_path / "root"
    root.mkdir()
    run("tar", "--extract", "--file", debian, "--directory", root)
    run("cp", "--recursive", DUMMY / "chronos-bolt-bundle", DUMMY / "chronos-bolt.etsa", root / "tmp")

    def inside(*command: object) -> str:
        return run("chroot", root, *command)

    inside.root = root  # type: ignore[attr-defined]
    yield inside
    run("rm", "--recursive", "--force", "--one-file-system", root)


def test_the_debian_package_installs_proves_an_adapter_and_leaves_nothing(
    package: Callable[[str], Path], chroot: Callable[..., str]
) -> None:
    root: Path = chroot.root  # type: ignore[attr-defined]
    run("cp", package("x86_64"), root / "tmp/device.deb")
    chroot("dpkg", "--install", "/tmp/device.deb")  # noqa: S108 - in the chroot
    proven = chroot("su", "nobody", "-s", "/bin/sh", "-c", " ".join(("edge-tsfm-device", *SELFTEST)))
    assert "passed" in proven
    assert chroot("dpkg", "--verify", "edge-tsfm-device") == ""
    assert list((root / "usr/lib/edge-tsfm-device/device_runtime/__pycache__").iterdir())
    assert (
        "_edge_tsfm_device_completion" in (root / "usr/share/bash-completion/completions/edge-tsfm-device").read_text()
    )
    chroot("dpkg", "--purge", "edge-tsfm-device")
    assert not (root / "usr/lib/edge-tsfm-device").exists()


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_debian_package_has_a_page_for_every_verb(package: Callable[[str], Path], arch: str) -> None:
    from device_runtime.cli import VERBS

    deb = package(arch)
    assert deb.stem.rsplit("_", 1)[1] == {"x86_64": "amd64", "aarch64": "arm64"}[arch]
    listed = run("dpkg-deb", "--contents", deb)
    pages = set(re.findall(r"man1/edge-tsfm-device-(\S+)\.1\.gz", listed))
    assert set(VERBS) <= pages
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}


def test_the_container_proves_an_adapter(package: Callable[[str], Path], debian: Path, tmp_path: Path) -> None:
    need("buildah")
    storage = ["buildah", "--root", tmp_path / "storage", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    try:
        made = run(*storage, "from", "scratch").strip()
    except AssertionError as error:
        pytest.skip(f"buildah cannot work here: {error}")
    run(*storage, "add", "--quiet", made, debian, "/")
    run(*storage, "commit", "--quiet", made, "localhost/debian")
    file = ROOT / "distribution" / "container" / "Containerfile"
    base = ("--build-arg", "BASE=localhost/debian", "--file", file, "--tag", "device")
    run(*storage, "build", "--isolation", "chroot", *base, package("x86_64").parent)
    device = run(*storage, "from", "localhost/device").strip()
    run(*storage, "add", "--quiet", device, DUMMY, "/tmp")  # noqa: S108 - in the container
    inside = [*storage, "run", "--isolation", "chroot", device, "--"]
    assert run(*inside, "id", "--user", "--name").strip() == "edge-tsfm"
    assert "passed" in run(*inside, "edge-tsfm-device", *SELFTEST)
    run(*storage, "rm", "--all")
    run(*storage, "rmi", "--all", "--force")


def test_manual_pages_are_sound(script: Callable[..., str], tmp_path: Path) -> None:
    """Groff has no warning on any of them, and nothing of a help text is lost as if it were a request."""
    if GROFF is None:
        pytest.skip("groff is not installed")
    script("manpages.py", "--out", tmp_path)
    pages = sorted(tmp_path.glob("*.1"))
    assert len(pages) > 50
    for page in pages:
        command = (GROFF, "-man", "-ww", "-Tutf8", "-K", "utf8", "-z", page)
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        assert done.stderr == "", page.name
        assert not re.search(r"^[.'](?!SH|PP|TP|TH|B )", page.read_text(), re.MULTILINE), page.name
    assert "EXIT STATUS" in (tmp_path / "edge-tsfm-train.1").read_text()
