"""Signatures after an adapter blob: FORMAT.md §8. Pure: bytes in, bytes out.

Invariants, in the order they are checked: the blob is followed by complete 80-byte signatures, at most eight; each
starts with ``ETSG``; those of another version, algorithm or key are ignored; ``threshold`` *different* trusted keys
signed exactly these bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from device_runtime.errors import MissingLibraryError, SignatureError
from device_runtime.format.blob import blob_size
from device_runtime.format.ed25519 import is_plain

# magic, version, algorithm, key_id, signature
TRAILER = struct.Struct("<4sHH8s64s")
MAGIC = b"ETSG"
VERSION = 1
ED25519 = 1
PREFIX = b"edge-tsfm adapter v1\0"
MAX_SIGNATURES = 8
MAX_SIGNATURES_SIZE = MAX_SIGNATURES * TRAILER.size  # bytes after the blob


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One signature of a version and algorithm that this runtime knows."""

    key_id: bytes  # 8 bytes
    signature: bytes  # 64 bytes


class Verifier(Protocol):
    """What checks one Ed25519 signature: the processor's, a secure element's, or the ``cryptography`` library's."""

    def __call__(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Return whether ``public_key`` (32 bytes) signed ``message``."""


def key_id(public_key: bytes) -> bytes:
    """Return the 8 bytes that name a public key of 32 bytes."""
    return hashlib.sha256(public_key).digest()[:8]


def split(data: bytes) -> tuple[bytes, tuple[Signature, ...]]:
    """Take a signed adapter apart into its blob and the signatures behind it.

    Raises `SizeError` and `FormatError` for the blob's frame (R1 to R3) and `SignatureError` for what follows it.
    """
    size = blob_size(data)
    return data[:size], read_signatures(data[size:])


def read_signatures(trailer: bytes) -> tuple[Signature, ...]:
    """Read the signatures of a trailer or ``.sig`` file, passing over those to come. Raises `SignatureError`."""
    count, rest = divmod(len(trailer), TRAILER.size)
    if rest:
        raise SignatureError(f"{len(trailer)} bytes behind the blob: want a multiple of {TRAILER.size}")
    if count > MAX_SIGNATURES:
        raise SignatureError(f"{count} signatures: want at most {MAX_SIGNATURES}")
    signatures = []
    for index in range(count):
        magic, version, algorithm, key, signature = TRAILER.unpack_from(trailer, index * TRAILER.size)
        if magic != MAGIC:
            raise SignatureError(f"signature {index}: want magic {MAGIC!r}, got {magic!r}")
        if version == VERSION and algorithm == ED25519:
            signatures.append(Signature(key_id=key, signature=signature))
    return tuple(signatures)


def write_signature(public_key: bytes, signature: bytes) -> bytes:
    """Encode one signature's 80 bytes."""
    return TRAILER.pack(MAGIC, VERSION, ED25519, key_id(public_key), signature)


def message(blob: bytes, prefix: bytes = PREFIX) -> bytes:
    """Return what is signed: the domain prefix, then the blob, or another kind of file under a prefix of its own."""
    return prefix + blob


def verify(
    blob: bytes,
    signatures: Iterable[Signature],
    trusted_keys: Iterable[bytes],
    threshold: int = 1,
    *,
    verifier: Verifier | None = None,
    prefix: bytes = PREFIX,
) -> frozenset[bytes]:
    """Check that at least ``threshold`` different trusted keys signed ``blob``; return those keys.

    ``trusted_keys`` are Ed25519 public keys of 32 bytes. What not all libraries refuse (points of small or mixed order,
    second encodings) is no signature, whatever ``verifier`` says. Raises `SignatureError`, and
    `MissingLibraryError` when there is nothing to check a signature with.
    """
    if threshold < 1:
        raise SignatureError(f"threshold {threshold}: want at least 1")
    keys: dict[bytes, list[bytes]] = {}
    for key in trusted_keys:
        keys.setdefault(key_id(key), []).append(key)
    check = verifier or ed25519
    good = {
        key
        for signature in signatures
        for key in keys.get(signature.key_id, ())
        if check(key, signature.signature, message(blob, prefix)) and is_plain(key, signature.signature)
    }
    if len(good) < threshold:
        raise SignatureError(
            f"{len(good)} of {threshold} wanted signatures by {sum(map(len, keys.values()))} trusted keys are good",
            hint="the adapter was not approved for this fleet",
        )
    return frozenset(good)


def ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Check one signature with the ``cryptography`` library. Raises `MissingLibraryError` without it."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingLibraryError(
            "no library to check signatures with", hint="install the extra [agent], or pass a Verifier"
        ) from error
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
