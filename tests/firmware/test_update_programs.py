"""firmware_examples/update with the programs themselves: nginx serves, RAUC bundles. Skipped where they are missing."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_runtime.update.lock import locked
from device_runtime.update.slots import slots_of
from edge_tsfm.deploy import rings
from tests.simulators.certificates import certificate
from tests.simulators.publisher import EVERYBODY, approve_version, make_device, make_repository

EXAMPLES = Path(__file__).resolve().parents[2] / "firmware_examples" / "update"


def program(name: str) -> str:
    """Find a program, also where only root's path leads."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def nginx(folder: Path, public: Path) -> Iterator[tuple[str, Path]]:
    """Run nginx with the example's server block, on a free port of loopback; yield address and certificate."""
    server = program("nginx")
    cert, key = certificate(folder)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    block = (EXAMPLES / "nginx/edge-tsfm.conf").read_text()
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/certs/updates.pem", str(cert)),
        ("/etc/ssl/private/updates.key", str(key)),
        ("/srv/edge-tsfm/public", str(public)),
    ):
        assert old in block
        block = block.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.getuid() == 0 else ""  # its workers must reach the test's folder
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log {folder}/access.log;\n{temporary}{block}}}\n"
    )
    command = [server, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"https://127.0.0.1:{port}", cert
    finally:
        running.terminate()
        running.wait(10)


def test_nginx_serves_an_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = make_repository(tmp_path, now=dt.datetime.now(dt.UTC))
    file = approve_version(repository, 1).file
    rings.start(repository, "icu", file, EVERYBODY, who="ops")
    with nginx(tmp_path, repository.folder / "public") as (url, cert):
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        make_device(tmp_path / "bed", repository, "bed", url=url)
        command = [sys.executable, "-m", "device_runtime.cli", "update", "--config", str(tmp_path / "bed/device.toml")]
        done = subprocess.run([*command, "--activate"], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "trial (sequence 1)", done.stdout + done.stderr
        cached = {
            name: urllib.request.urlopen(f"{url}/{name}").headers["Cache-Control"]  # noqa: S310 - our own address
            for name in ("metadata/timestamp.json", "metadata/1.root.json", "metadata/1.targets.json")
        }
    assert list(cached.values()) == ["no-store", "no-cache", "public, max-age=31536000, immutable"]
    asked = (tmp_path / "access.log").read_text()
    assert '"GET /metadata/2.root.json HTTP/1.1" 404' in asked
    assert f"/targets/approved/icu/{file}.{file}.etsa" in asked


def test_an_unknown_certificate_is_not_believed(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, now=dt.datetime.now(dt.UTC))
    with nginx(tmp_path, repository.folder / "public") as (url, _):
        make_device(tmp_path / "bed", repository, "bed", url=url)
        command = [sys.executable, "-m", "device_runtime.cli", "update", "--config", str(tmp_path / "bed/device.toml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failed" in done.stdout


def test_rauc_makes_a_bundle_of_manifest_and_hook(tmp_path: Path) -> None:
    rauc = program("rauc")
    program("mksquashfs")
    cert, key = certificate(tmp_path, signing=True)
    content = tmp_path / "content"
    content.mkdir()
    for name in ("manifest.raucm", "hook.sh"):
        shutil.copy(EXAMPLES / "rauc" / name, content / name)
    (content / "rootfs.ext4").write_bytes(os.urandom(1 << 16))  # squashfs would make nothing of zeros
    bundle = tmp_path / "monitor.raucb"
    made = subprocess.run(
        [rauc, "bundle", f"--cert={cert}", f"--key={key}", str(content), str(bundle)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    info = subprocess.run([rauc, "info", f"--keyring={cert}", str(bundle)], capture_output=True, text=True, check=False)
    assert info.returncode == 0, info.stderr
    for words in ("bedside-monitor", "rootfs.ext4", "post-install"):
        assert words in info.stdout


ARTIFACT_INFO = Path("/etc/mender/artifact_info")
MODULES = Path("/usr/share/mender/modules/v3")  # where Mender's client looks, and nowhere else


@pytest.fixture
def mender_module() -> Iterator[str]:
    """Install the example's update module where Mender looks for it, under a name of the test's own."""
    program("mender")
    program("mender-artifact")
    if os.geteuid() or not MODULES.is_dir():
        pytest.skip("installing an update module needs root and Mender's folder of modules")
    name = f"edge-tsfm-test-{os.getpid()}"
    shutil.copy(EXAMPLES / "mender" / "edge-tsfm-adapter", MODULES / name)
    (MODULES / name).chmod(0o755)
    made = not ARTIFACT_INFO.exists()  # a device that Mender provisioned has one
    if made:
        ARTIFACT_INFO.parent.mkdir(exist_ok=True)
        ARTIFACT_INFO.write_text("artifact_name=factory\n")
    try:
        yield name
    finally:
        (MODULES / name).unlink()
        if made:
            ARTIFACT_INFO.unlink()


def test_mender_installs_commits_and_rolls_back(tmp_path: Path, mender_module: str) -> None:
    """Mender's own client, standalone, with an artifact that its own tool made."""
    repository = make_repository(tmp_path, now=dt.datetime.now(dt.UTC))
    config = make_device(tmp_path / "bed", repository, "bed")
    data = tmp_path / "mender"
    data.mkdir()
    (data / "device_type").write_text("device_type=monitor\n")
    (tmp_path / "mender.conf").write_text("{}")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EDGE_TSFM_DEVICE_CONFIG": str(tmp_path / "bed/device.toml"),
    }

    def mender(*command: object, status: int = 0) -> str:
        whole = ["mender", "--config", tmp_path / "mender.conf", "--data", data, "--no-syslog", *command]
        done = subprocess.run(list(map(str, whole)), capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def artifact(version: int) -> Path:
        file = approve_version(repository, version).file
        signed = tmp_path / f"map-{version}.etsa"
        shutil.copy(repository.targets / "approved" / "icu" / f"{file}.{file}.etsa", signed)
        made = tmp_path / f"map-{version}.mender"
        command = ["mender-artifact", "write", "module-image", "-T", mender_module, "-n", f"map-{version}"]
        command += ["-t", "monitor", "-f", str(signed), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True)
        return made

    def runs() -> tuple[str, int | None]:
        record = slots_of(config).record
        return record.state.value, record.runs.version if record.runs else None

    mender("install", artifact(1))
    assert runs() == ("trial", 1)
    mender("commit")
    with locked(config.state):
        slots_of(config).confirm("watched", who="test")
    mender("install", artifact(2))
    assert runs() == ("trial", 2)
    mender("rollback")
    assert runs() == ("confirmed", 1)
    mender("install", artifact(3))
    with locked(config.state):
        slots_of(config).fall_back("the health window failed", who="device")
    mender("commit", status=1)  # what the monitor took back by itself is not committed
    assert runs() == ("confirmed", 1)
