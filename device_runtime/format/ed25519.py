"""Checks of an Ed25519 signature and key before a library verifies it: FORMAT.md §8. Integer arithmetic only.

Libraries differ in what else they accept: points of small order, non-canonical encodings, the equation with or without
the cofactor. If S is below the order and both points have prime order in their canonical encoding, all agree, so a
signature has the same verdict in Python, in C and on a secure element.
"""

from __future__ import annotations

from functools import lru_cache

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493  # L, the prime order of the base point
D = -121665 * pow(121666, -1, FIELD) % FIELD
ROOT_OF_MINUS_ONE = pow(2, (FIELD - 1) // 4, FIELD)

Point = tuple[int, int, int, int]  # X, Y, Z, T: x = X / Z, y = Y / Z, x y = T / Z


def is_plain(public_key: bytes, signature: bytes) -> bool:
    """Return whether S < L, and R and the key are points of prime order, each in its one encoding."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    return (
        int.from_bytes(signature[32:], "little") < ORDER
        and _key_has_prime_order(public_key)
        and has_prime_order(signature[:32])
    )


def has_prime_order(encoded: bytes) -> bool:
    """Return whether 32 bytes are the one encoding of a point whose order is L; the neutral point's is 1."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    x = _x_of(y, encoded[31] >> 7) if y < FIELD else None
    if x is None or (x, y) == (0, 1):
        return False
    point: Point = (x, y, 1, x * y % FIELD)
    result = point
    for bit in f"{ORDER:b}"[1:]:
        result = _add(result, result)
        if bit == "1":
            result = _add(result, point)
    return result[0] % FIELD == 0 and (result[1] - result[2]) % FIELD == 0


# A device has a handful of trusted keys and asks for them at each start.
_key_has_prime_order = lru_cache(maxsize=64)(has_prime_order)


def _x_of(y: int, sign: int) -> int | None:
    """Return the x of a point of the curve with that y and the sign bit ``sign``; None where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, FIELD) % FIELD
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if (x * x - square) % FIELD:
        x = x * ROOT_OF_MINUS_ONE % FIELD
    if (x * x - square) % FIELD or (x == 0 and sign):
        return None
    return FIELD - x if x % 2 != sign else x


def _add(p: Point, q: Point) -> Point:
    """Add two points of the curve, equal ones too (Hisil and others 2008: complete on this curve)."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % FIELD
    b = (p[1] + p[0]) * (q[1] + q[0]) % FIELD
    c = 2 * D * p[3] * q[3] % FIELD
    d = 2 * p[2] * q[2] % FIELD
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % FIELD, g * h % FIELD, f * g % FIELD, e * h % FIELD)
