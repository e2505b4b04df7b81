"""The samples on a monitor whose settings take signed adapters only, and files of the wrong kind in their hands."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest

from device_runtime.errors import BaseMismatchError, DeviceRuntimeError, SignatureError, StorageError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import canonical
from device_runtime.format.blob import encode

from .conftest import run
from .dummy import make_adapter
from .service import Service

KEY, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def signed(bundle: Bundle, tmp_path: Path) -> tuple[Path, str]:
    """An adapter with a signature, and the key that made it."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    private = ed25519.Ed25519PrivateKey.generate()
    key = private.public_key().public_bytes_raw()
    blob = encode(make_adapter(bundle))
    head = b"ETSG\1\0\1\0" + hashlib.sha256(key).digest()[:8]
    (tmp_path / "signed.etsa").write_bytes(blob + head + private.sign(b"edge-tsfm adapter v1\0" + blob))
    return tmp_path / "signed.etsa", key.hex()


def code(built: Path, library: Path, bundle: Path, *options: object, settings: str | None = None) -> tuple[int, str]:
    """Forecast on a monitor with those settings; return the code and standard error."""
    binary = built / "forecast_ort" / "etsa-forecast"
    command = [binary, "--library", library, bundle, *options]
    if settings is not None:
        command = ["/usr/bin/env", f"EDGE_TSFM_DEVICE_CONFIG={settings}", *command]
    done = run(*command, stdin="70\n71\n72\n")
    refused = re.search(r"^etsa-forecast: \[(\d+)\]", done.stderr, flags=re.MULTILINE)
    return int(refused[1]) if refused else done.returncode, done.stderr


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("signed_only = true\n", True), ("signed_only=true", True), ("  signed_only\t=\ttrue # yes\r\n", True),
        ('"signed_only" = true\n', True), ("'signed_only' = true\n", True), ('signed_only = "false"\n', True),
        ("signed_only = falsetto\n", True), ("signed_only =\n", True), ("a = 1\nsigned_only = true\n[policy]\n", True),
        ("signed_only = false\n", False), ("signed_only = false# no\n", False), ("", False), ("a = 1\n", False),
        ("signed_only_not = true\n", False), ("[policy]\nsigned_only = true\n", False), ("#signed_only=true\n", False),
    ],
)  # fmt: skip
def test_settings_that_take_signed_adapters_only(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path, signed: tuple[Path, str], text: str, only: bool
) -> None:
    path, key = signed
    settings = tmp_path / "device.toml"
    settings.write_text(f'trusted_keys = ["{OTHER}", "{key.upper()}"]\n{text}')
    adapter = ("--adapter", path)
    for keys, wanted in (
        ((), SignatureError.code if only else 0),
        (("--key", key), 0),
        (("--key", OTHER), SignatureError.code),
        (("--key", key, "--key", KEY), SignatureError.code if only else 0),  # one that nobody here trusts
    ):
        got, said = code(built, library, bundle.path, *adapter, *keys, settings=str(settings))
        assert got == wanted, (keys, said)
    assert code(built, library, bundle.path, settings=str(settings))[0] == 0  # the base alone may always run


def test_settings_that_cannot_be_read_allow_nothing(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path, signed: tuple[Path, str]
) -> None:
    options = ("--adapter", signed[0])
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "long").write_text("#" * 70_000)
    for name, wanted in (("fifo", 400), ("loop", 400), ("long", 102), (".", 400)):
        assert code(built, library, bundle.path, *options, settings=str(tmp_path / name))[0] == wanted, name
    assert code(built, library, bundle.path, *options, settings=str(tmp_path / "not there"))[0] == 0


def test_the_service_takes_back_what_it_may_not_load(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path, signed: tuple[Path, str]
) -> None:
    """An empty file is the way back to the base: it asks for no settings, which may not be readable just then."""
    path, key = signed
    settings = tmp_path / "device.toml"
    settings.write_text(f'trusted_keys = ["{key}"]\nsigned_only = true\n')
    binary = built / "service" / "etsa-service"
    service = Service(binary, library, bundle, path, "--key", key, EDGE_TSFM_DEVICE_CONFIG=str(settings))
    service.log("channel 0 runs")
    settings.unlink()
    settings.mkdir()
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 keeps what runs: [400] StorageError")
    path.write_bytes(b"")
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 runs the base alone")
    service.finish()


@pytest.mark.parametrize("what", ["fifo", "folder", "socket", "device", "loop"])
def test_what_is_no_file_never_makes_the_samples_wait(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path, what: str
) -> None:
    """In the place of the adapter, the manifest, the weights and a graph; Python gives the same code."""
    places = ["adapter", "bundle.json", "tunable.safetensors", "forecast.onnx"]
    for place in places:
        copy = tmp_path / f"{place}-bundle"
        shutil.copytree(bundle.path, copy)
        odd = tmp_path / "adapter" if place == "adapter" else copy / place
        odd.unlink(missing_ok=True)
        make_odd(odd, what)
        options = ("--adapter", odd) if place == "adapter" else ()
        got, said = code(built, library, copy, *options)
        with pytest.raises(DeviceRuntimeError) as error:
            Forecaster.open(copy, odd if place == "adapter" else None)
        assert got == StorageError.code == error.value.code, (place, said, error.value)


def make_odd(path: Path, what: str) -> None:
    """Put something that is no regular file under a name."""
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "loop":
        path.symlink_to(path.name)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            here = Path.cwd()
            os.chdir(path.parent)  # a socket's name is short
            try:
                made.bind(path.name)
            finally:
                os.chdir(here)


def test_an_empty_file_may_be_pinned(built: Path, library: Path, bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    (copy / "nothing.bin").touch()
    value = json.loads((copy / "bundle.json").read_bytes())
    value["files"]["nothing.bin"] = {"sha256": hashlib.sha256().hexdigest(), "size": 0}
    (copy / "bundle.json").write_bytes(canonical.dumps(value))
    Forecaster.open(copy)
    assert code(built, library, copy)[0] == 0
    (copy / "nothing.bin").write_bytes(b"x")
    with pytest.raises(BaseMismatchError):
        Forecaster.open(copy)
    assert code(built, library, copy)[0] == BaseMismatchError.code
