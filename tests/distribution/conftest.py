"""What is built once for all tests of what is installed."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "distribution"


def run(*command: object, **options: object) -> str:
    """Run a command and return what it prints; what it says when it fails is in the test's failure."""
    given: dict[str, object] = {"env": environment(), **options}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **given)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return str(done.stdout)


def environment() -> dict[str, str]:
    """The variables of the tests, without what would let an installed package find the tree."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="session")
def script() -> Callable[..., str]:
    """Run one of ``distribution``'s scripts: ``script("wheels.py", "--out", folder)``."""
    for name in ("build", "setuptools", "click_man"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: it comes with [dev]")

    def call(name: str, *arguments: object) -> str:
        given = {**environment(), "PYTHONPATH": str(ROOT)}
        return run(sys.executable, SCRIPTS / name, *arguments, cwd=ROOT, env=given)

    return call


@pytest.fixture(scope="session")
def wheels(script: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build both wheels: by the name of what they install."""
    folder = tmp_path_factory.mktemp("wheels")
    script("wheels.py", "--out", folder)
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def wheelhouse(script: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Fetch, once, what a monitor with a processor installs; skip where no package index answers."""
    made: dict[str, Path] = {}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"

    def fetch(arch: str) -> Path:
        if arch not in made:
            if not index_answers(tmp_path_factory.mktemp("index")):
                pytest.skip("no package index answers")
            out = tmp_path_factory.mktemp("house")
            script("wheelhouse.py", "--arch", arch, "--python", python, "--out", out)
            (made[arch],) = out.iterdir()
        return made[arch]

    return fetch


def index_answers(folder: Path) -> bool:
    """Say whether pip can fetch a small package; where it can, a wheelhouse that fails is a failure."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "iniconfig"]
    return subprocess.run(command, capture_output=True, check=False, timeout=120).returncode == 0


def fresh(folder: Path) -> Path:
    """Make an environment without pip and return its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def archive_of(suite: str) -> str:
    """Return the address from which this machine's own apt gets a release of Debian; skip where there is none."""
    need("apt-get")
    known = run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages")
    addresses = [line.split(" ", 1)[1] for line in known.splitlines() if line.startswith(f"{suite} ")]
    if not addresses:
        pytest.skip(f"this machine's apt gets no packages of {suite}")
    where = urlsplit(addresses[0])
    try:
        socket.create_connection((where.hostname, where.port or 80), timeout=10).close()
    except OSError:
        pytest.skip("Debian's archive does not answer")
    return addresses[0]


def need(*programs: str) -> None:
    """Skip where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
