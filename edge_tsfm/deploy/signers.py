"""Keys of the publisher: made here and used by URI; no other module reads them.

A key is named by its public part and a URI that says where the private part is: ``file2:NAME.pem`` (in the keys folder,
PKCS#8, mode 0600) or ``hsm:…`` (PKCS#11, through securesystemslib). No cryptography of our own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Any

from device_runtime.files import write_atomic
from device_runtime.format.envelope import PREFIX, message, write_signature
from device_runtime.update.rollout import NAME
from edge_tsfm.errors import DeployError

FILE = "file2:"
ROLES = {"root": 3, "targets": 2, "quality": 2, "rollout": 1, "online": 1, "adapter": 2}  # keys that `keygen` makes


@dataclass(frozen=True, kw_only=True)
class KeyRef:
    """A key: public part as TUF writes it, and where the private part is."""

    uri: str
    keyid: str
    public: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuse what is no public key."""
        value = self.public.get("keyval")
        texts = [self.public.get("keytype"), self.public.get("scheme")]
        texts += [value.get("public")] if isinstance(value, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise DeployError("public: want a key as TUF writes it: texts keytype, scheme and keyval.public")

    def to_value(self) -> dict[str, Any]:
        """Encode as plain values."""
        return {"uri": self.uri, "keyid": self.keyid, "public": self.public}

    @property
    def key(self) -> Any:
        """The key as securesystemslib has it."""
        from securesystemslib.signer import Key

        try:
            return Key.from_dict(self.keyid, dict(self.public))
        except (KeyError, TypeError, ValueError) as error:
            raise DeployError(f"key {self.keyid[:16]}: not a key as TUF writes it: {error}") from error


def make_file_key(folder: Path, name: str) -> KeyRef:
    """Make an Ed25519 key in ``folder``. Raises `DeployError` when there already is one of that name."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from securesystemslib.signer import CryptoSigner

    if not NAME.fullmatch(name):
        raise DeployError(f"key name {name!r}: want a-z, 0-9 and -")
    path = folder / f"{name}.pem"
    if path.exists():
        raise DeployError(f"{path} already exists", hint="a key is never overwritten; choose another folder")
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
            f"PKCS#11 token {token!r}: {error}", hint="install edge-tsfm with the extra [hsm], and set PYKCS11LIB"
        ) from error
    return KeyRef(uri=uri, keyid=public.keyid, public=public.to_dict())


def signer_for(ref: KeyRef, folder: Path) -> Any | None:
    """Return what signs with a key, or None when its file is not in ``folder`` (it is offline).

    Raises `DeployError`, also for a key file that others may read.
    """
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, HSMSigner, Signer

    SIGNER_FOR_URI_SCHEME.setdefault(HSMSigner.SCHEME, HSMSigner)
    uri = ref.uri
    if uri.startswith(FILE):
        path = folder / uri.removeprefix(FILE)
        if not path.exists():
            return None
        if path.stat().st_mode & 0o077:
            raise DeployError(
                f"{path} can be read by others (mode {path.stat().st_mode & 0o777:o}): it is not used",
                hint=f"chmod 600 {path}; mount a stick without Unix modes with umask=077",
            )
        uri = FILE + str(path)
    try:
        return Signer.from_priv_key_uri(uri, ref.key, _ask)
    except (OSError, ValueError) as error:
        raise DeployError(f"key {ref.uri}: {error}") from error


def _ask(secret: str) -> str:
    """Ask for a PIN; take it from the environment if there is no terminal."""
    import os

    return os.environ.get("EDGE_TSFM_PIN") or getpass(f"{secret}: ")


def public_bytes(ref: KeyRef) -> bytes:
    """Return an Ed25519 key's 32 public bytes. Raises `DeployError` for another kind of key."""
    if ref.public.get("keytype") != "ed25519":
        raise DeployError(f"key {ref.uri} is {ref.public.get('keytype')}: adapters are signed with Ed25519")
    return bytes.fromhex(ref.public["keyval"]["public"])


def sign_blob(blob: bytes, keys: list[tuple[KeyRef, Any]], threshold: int) -> tuple[bytes, list[str]]:
    """Return ``blob`` with signatures by ``threshold`` of ``keys`` behind it (FORMAT.md §8), and those keys' ids.

    Raises as `signatures_of`.
    """
    trailer, ids = signatures_of(blob, keys, threshold)
    return blob + trailer, ids


def signatures_of(
    data: bytes, keys: list[tuple[KeyRef, Any]], threshold: int, *, prefix: bytes = PREFIX
) -> tuple[bytes, list[str]]:
    """Return signatures of ``data`` under a domain ``prefix`` by ``threshold`` of ``keys``, and those keys' ids.

    ``keys` are the ones that are here, each with what signs with it. Raises `DeployError`.
    """
    if len(keys) < threshold:
        raise DeployError(f"{len(keys)} of {threshold} adapter keys are here", hint="bring the missing keys, or --keys")
    used = keys[:threshold]
    trailer = b"".join(
        write_signature(public_bytes(ref), bytes.fromhex(signer.sign(message(data, prefix)).signature))
        for ref, signer in used
    )
    return trailer, [ref.keyid for ref, _ in used]


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
