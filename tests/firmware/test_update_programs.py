"""firmware_examples/update with the programs themselves: nginx serves, RAUC bundles. Skipped where they are missing."""

from __future__ import annotations

import datetime as dt
import ipaddress
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
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simulators"))

from publisher import EVERYBODY, approve_version, make_device, make_repository

from edge_tsfm.deploy import channels

EXAMPLES = Path(__file__).resolve().parents[2] / "firmware_examples" / "update"


def program(name: str) -> str:
    """Find a program, also where only root's path leads."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def certificate(folder: Path, *, signing: bool = False) -> tuple[Path, Path]:
    """Make a key and a certificate for loopback that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-tsfm test")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    if not signing:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = builder.sign(key, hashes.SHA256())
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


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
    channels.start(repository, "icu", file, EVERYBODY, who="ops")
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
