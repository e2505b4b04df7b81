"""A quality key that never leaves a PKCS#11 token: SoftHSM2 in place of the hospital's HSM."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_runtime.monitor import installer_of
from device_runtime.update.agent.poll import Agent
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.setup import rotate_key
from edge_tsfm.deploy.signers import import_hsm_key
from edge_tsfm.errors import DeployError
from tests.simulators.publisher import EVERYBODY, NOW, approve_version, make_device, make_repository

LIBRARIES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so")
TOKEN, PIN = "quality", "1234"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token with one P-256 key of id 2, made in a folder of the test's own."""
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed (extra hsm)")
    program = shutil.which("softhsm2-util")
    library = next((path for path in LIBRARIES if Path(path).exists()), None)
    if program is None or library is None:
        pytest.skip("softhsm2 is not installed")
    (tmp_path / "tokens").mkdir()
    settings = tmp_path / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\n")
    for name, value in (("SOFTHSM2_CONF", str(settings)), ("PYKCS11LIB", library), ("EDGE_TSFM_PIN", PIN)):
        monkeypatch.setenv(name, value)

    key = tmp_path / "key.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def util(*arguments: str) -> None:
        subprocess.run([program, *arguments], check=True, capture_output=True, env=os.environ)

    util("--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", PIN)
    util("--import", str(key), "--token", TOKEN, "--label", "quality", "--id", "02", "--pin", PIN)
    key.unlink()
    return TOKEN


def test_a_token_approves_and_a_monitor_believes_it(token: str, tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    key = import_hsm_key(token, 2)
    assert key.uri.startswith("hsm:")
    rotate_key(repository, "quality", repository.refs("quality")[0].keyid, key)
    approval = approve_version(repository, 1)
    assert key.keyid in repository.load("approved").signatures  # beside the file key: two of two must sign
    rings.start(repository, "icu", approval.file, EVERYBODY, who="ops")
    config = make_device(tmp_path / "bed", repository, "bed")
    outcome = Agent(config, installer_of(config), clock=NOW.timestamp).poll(activate_now=True)
    assert (outcome.action, outcome.sequence) == ("trial", 1)


def test_a_token_that_is_not_there_is_named(token: str) -> None:
    with pytest.raises(DeployError, match="nonesuch"):
        import_hsm_key("nonesuch", 2)
