"""Ed25519 signatures that some libraries accept and others refuse, made with the secret key; no reader may take one.

Points are affine pairs of whole numbers, added by the curve's own law: slow and plain.
"""

from __future__ import annotations

import hashlib

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, FIELD) % FIELD
Point = tuple[int, int]
NEUTRAL: Point = (0, 1)
BASE: Point = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    4 * pow(5, -1, FIELD) % FIELD,
)
# One of the four points of order 8.
EIGHTH: Point = (
    43496726750457979451437558183816721346016168361625936758514574428539776020131,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
)


def add(p: Point, q: Point) -> Point:
    product = D * p[0] * q[0] * p[1] * q[1]
    x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + product, -1, FIELD)
    y = (p[1] * q[1] + p[0] * q[0]) * pow(1 - product, -1, FIELD)
    return x % FIELD, y % FIELD


def times(number: int, point: Point) -> Point:
    result = NEUTRAL
    for bit in f"{number:b}":
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % ORDER


def secret_of(seed: bytes) -> int:
    """RFC 8032's secret number of a private key of 32 bytes."""
    low = bytearray(hashlib.sha512(seed).digest()[:32])
    low[0] &= 248
    low[31] = low[31] & 127 | 64
    return int.from_bytes(low, "little")


def sign(message: bytes, *, secret: int, key: bytes, r: int, r_bytes: bytes | None = None, more: int = 0) -> bytes:
    """A signature whose R is ``r_bytes`` (else r times the base point) and whose S is r + h secret + ``more``."""
    first = encoded(times(r, BASE)) if r_bytes is None else r_bytes
    s = (r + challenge(first, key, message) * secret) % ORDER + more
    return first + s.to_bytes(32, "little")


def odd_ones(message: bytes, seed: bytes) -> dict[str, tuple[str, bytes, bytes]]:
    """Name → (comment, public key, signature)."""
    secret = secret_of(seed)
    key = encoded(times(secret, BASE))
    second_neutral = (FIELD + 1).to_bytes(32, "little")
    mixed_r = encoded(add(times(77, BASE), EIGHTH))
    mixed_key = encoded(add(times(secret, BASE), EIGHTH))
    # The part of order 8 falls out of h times the key where 8 divides h.
    r = next(r for r in range(1, 1000) if challenge(encoded(times(r, BASE)), mixed_key, message) % 8 == 0)
    negative = (FIELD - EIGHTH[0], EIGHTH[1])
    cancelling = next(
        r for r in range(1, 1000)
        if challenge(encoded(add(times(r, BASE), negative)), mixed_key, message) % 8 == 1
    )  # fmt: skip
    return {
        "r-neutral": (
            "R is the neutral point", key,
            sign(message, secret=secret, key=key, r=0, r_bytes=encoded(NEUTRAL)),
        ),
        "r-neutral-twice": (
            "R is the neutral point in its second encoding", key,
            sign(message, secret=secret, key=key, r=0, r_bytes=second_neutral),
        ),
        "r-order-8": (
            "R has order 8: good with the cofactor only", key,
            sign(message, secret=secret, key=key, r=0, r_bytes=encoded(EIGHTH)),
        ),
        "r-mixed": (
            "R has a part of order 8: good with the cofactor only", key,
            sign(message, secret=secret, key=key, r=77, r_bytes=mixed_r),
        ),
        "s-large": (
            "S and the order added: the same number in a second form", key,
            sign(message, secret=secret, key=key, r=77, more=ORDER),
        ),
        "key-neutral": (
            "the key is the neutral point: anybody signs", encoded(NEUTRAL),
            sign(message, secret=0, key=encoded(NEUTRAL), r=77),
        ),
        "key-order-8": (
            "the key has order 8: anybody signs", encoded(EIGHTH),
            sign(message, secret=0, key=encoded(EIGHTH), r=next(
                r for r in range(1, 1000) if challenge(encoded(times(r, BASE)), encoded(EIGHTH), message) % 8 == 0
            )),
        ),
        "key-mixed": (
            "the key has a part of order 8: good with and without the cofactor", mixed_key,
            sign(message, secret=secret, key=mixed_key, r=r),
        ),
        "both-mixed": (
            "parts of order 8 in R and key that cancel", mixed_key,
            sign(message, secret=secret, key=mixed_key, r=cancelling,
                 r_bytes=encoded(add(times(cancelling, BASE), negative))),
        ),
    }  # fmt: skip
