"""Keys of the publisher: made here, used by URI, never seen by anything else.

A key is named by its public part and a URI that says where the private part is: ``file2:NAME.pem`` (in the keys folder,
PKCS#8, mode 0600) or ``hsm:…`` (PKCS#11, through securesystemslib). No cryptography of our own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Any

from device_runtime.envelope import message, write_signature
from device_runtime.files import write_atomic
from edge_tsfm.errors import DeployError

FILE = "file2:"
ROLES = {"root": 3, "targets": 2, "quality": 2, "rollout": 1, "online": 1, "adapter": 2}  # keys that `keygen` makes


@dataclass(frozen=True, kw_only=True)
class KeyRef:
    """A key: public part as TUF writes it, and where the private part is."""

    uri: str
    keyid: str
    public: dict[str, Any]

    def to_value(self) -> dict[str, Any]:
        """Encode as plain values."""
        return {"uri": self.uri, "keyid": self.keyid, "public": self.public}

    @property
    def key(self) -> Any:
        """The key as securesystemslib has it."""
        from securesystemslib.signer import Key

        return Key.from_dict(self.keyid, dict(self.public))


def make_file_key(folder: Path, name: str) -> KeyRef:
    """Make an Ed25519 key in ``folder``. Raises `DeployError` when there already is one of that name."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from securesystemslib.signer import CryptoSigner

    path = folder / f"{name}.pem"
    if path.exists():
        raise DeployError(f"{path} is there already", hint="a key is never overwritten; choose another folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    signer = CryptoSigner.generate_ed25519()
    private = signer._private_key  # the library offers no public way to write the key it made
    write_atomic(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    return KeyRef(uri=FILE + path.name, keyid=signer.public_key.keyid, public=signer.public_key.to_dict())


def import_hsm_key(token: str, hsm_keyid: int) -> KeyRef:
    """Take a key of a PKCS#11 token, found by the token's label. Needs PYKCS11LIB. Raises `DeployError`."""
    from securesystemslib.exceptions import UnsupportedLibraryError
    from securesystemslib.signer import HSMSigner

    try:
        uri, public = HSMSigner.import_(hsm_keyid, token)
    except (UnsupportedLibraryError, ValueError) as error:
        raise DeployError(
            f"PKCS#11 token {token!r}: {error}", hint="pip install 'edge-tsfm[hsm]', and set PYKCS11LIB"
        ) from error
    return KeyRef(uri=uri, keyid=public.keyid, public=public.to_dict())


def signer_for(ref: KeyRef, folder: Path) -> Any | None:
    """Return what signs with a key, or None when its file is not here (it is offline). Raises `DeployError`."""
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, HSMSigner, Signer

    SIGNER_FOR_URI_SCHEME.setdefault(HSMSigner.SCHEME, HSMSigner)
    uri = ref.uri
    if uri.startswith(FILE):
        path = folder / uri.removeprefix(FILE)
        if not path.exists():
            return None
        uri = FILE + str(path)
    try:
        return Signer.from_priv_key_uri(uri, ref.key, _ask)
    except (OSError, ValueError) as error:
        raise DeployError(f"key {ref.uri}: {error}") from error


def _ask(secret: str) -> str:
    """Ask for a PIN; from the environment where nobody can be asked."""
    import os

    return os.environ.get("EDGE_TSFM_PIN") or getpass(f"{secret}: ")


def public_bytes(ref: KeyRef) -> bytes:
    """Return an Ed25519 key's 32 public bytes. Raises `DeployError` for another kind of key."""
    if ref.public.get("keytype") != "ed25519":
        raise DeployError(f"key {ref.uri} is {ref.public.get('keytype')}: adapters are signed with Ed25519")
    return bytes.fromhex(ref.public["keyval"]["public"])


def sign_blob(blob: bytes, refs: list[KeyRef], folder: Path, threshold: int) -> bytes:
    """Return ``blob`` with signatures by ``threshold`` keys behind it (FORMAT.md §8). Raises `DeployError`."""
    trailer = b""
    signed = 0
    for ref in refs:
        signer = signer_for(ref, folder)
        if signer is not None and signed < threshold:
            trailer += write_signature(public_bytes(ref), bytes.fromhex(signer.sign(message(blob)).signature))
            signed += 1
    if signed < threshold:
        raise DeployError(f"{signed} of {threshold} adapter keys are here", hint="bring the missing keys, or --keys")
    return blob + trailer


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
