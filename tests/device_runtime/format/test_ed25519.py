"""What counts as a signature at all, whichever library checks it."""

from __future__ import annotations

import random

import pytest

from device_runtime.errors import SignatureError
from device_runtime.format.blob import encode
from device_runtime.format.ed25519 import FIELD, ORDER, _add, _x_of, has_prime_order, is_plain
from device_runtime.format.envelope import Signature, key_id, verify
from tests.support.adapters import example_adapter

BASE = (4 * pow(5, -1, FIELD) % FIELD).to_bytes(32, "little")


def point(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def small_order() -> list[bytes]:
    """The eight points of small order: L times any point of the curve, and their encodings."""
    found: set[bytes] = set()
    for y in range(2, 200):
        x = _x_of(y, 0)
        if x is None:
            continue
        once = (x, y, 1, x * y % FIELD)
        result = (0, 1, 1, 0)
        for bit in f"{ORDER:b}":
            result = _add(result, result)
            result = _add(result, once) if bit == "1" else result
        inverse = pow(result[2], -1, FIELD)
        made = (result[0] * inverse % FIELD, result[1] * inverse % FIELD)
        found |= {point(made[1], made[0] & 1), point(made[1], -made[0] % FIELD & 1)}
    return sorted(found)


def test_the_base_point_has_prime_order() -> None:
    assert has_prime_order(BASE)
    assert has_prime_order(BASE[:31] + bytes([BASE[31] | 0x80]))  # its negation


def test_no_point_of_small_order_does() -> None:
    points = small_order()
    assert len(points) == 8
    assert not any(has_prime_order(one) for one in points)


@pytest.mark.parametrize("y", [0, 1, FIELD - 1, FIELD, FIELD + 1, FIELD + 3, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_no_second_encoding_does(y: int, sign: int) -> None:
    assert not has_prime_order(point(y, sign))


def test_one_in_sixteen_of_random_bytes_does() -> None:
    """Half of all y belong to a point, an eighth of the points have prime order."""
    draw = random.Random(1)
    count = sum(has_prime_order(draw.randbytes(32)) for _ in range(320))
    assert 8 <= count <= 34


@pytest.mark.parametrize("s", [ORDER, ORDER + 1, 2**253, 2**256 - 1])
def test_s_is_below_the_order(s: int) -> None:
    assert is_plain(BASE, BASE + (ORDER - 1).to_bytes(32, "little"))
    assert not is_plain(BASE, BASE + s.to_bytes(32, "little"))
    assert not is_plain(BASE, BASE)


def test_a_verifier_that_takes_anything_is_not_believed() -> None:
    blob = encode(example_adapter())
    neutral = point(1)
    for key, signature in ((BASE, neutral + bytes(32)), (neutral, BASE + bytes(32)), (BASE, BASE + b"\xff" * 32)):
        with pytest.raises(SignatureError):
            verify(blob, [Signature(key_id=key_id(key), signature=signature)], [key], verifier=lambda *_: True)
    good = Signature(key_id=key_id(BASE), signature=BASE + bytes(32))
    assert verify(blob, [good], [BASE], verifier=lambda *_: True) == {BASE}
