import struct
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tsfm.data import Series, fingerprint, split_of

HOUR = pd.Timedelta("1h")


@given(st.text(min_size=1).filter(lambda t: t.isprintable()))
def test_the_split_is_the_published_rule(item_id: str) -> None:
    digit = int(sha256(item_id.encode()).hexdigest(), 16) % 10
    assert split_of(item_id) == ("train" if digit <= 6 else "validation" if digit <= 8 else "test")


def test_some_patients_by_name() -> None:
    # printf p000016 | sha256sum, the number's last decimal digit
    parts = [split_of(f"p0000{k}") for k in ("01", "16", "17", "32", "55")]
    assert parts == ["train", "validation", "test", "validation", "test"]


def one(item_id: str = "p1", values: tuple[float, ...] = (80.0, np.nan, 82.0)) -> Series:
    return Series(
        item_id=item_id, signal="HR", interval=HOUR, start=pd.Timestamp("2896-10-10 00:31"),
        target=np.array(values, dtype=np.float32),
    )  # fmt: skip


def test_a_known_fingerprint_never_changes() -> None:
    # 2896-10-10 00:31 is 29,246,229,060 s after 1970.
    documented = (
        b"edge-tsfm series 1\n"
        + b"\x02\0\0\0p1"
        + b"\x02\0\0\0HR"
        + struct.pack("<?qdQ", True, 29_246_229_060_000_000, 3.6e9, 3)
        + bytes.fromhex("0000a042 0000c07f 0000a442")
    )
    assert fingerprint([one()]) == sha256(documented).hexdigest()


def test_order_of_series_and_nan_patterns_do_not_count() -> None:
    a, b = one("a"), one("b")
    assert fingerprint([a, b]) == fingerprint([b, a])
    odd = np.array([80.0, 0.0, 82.0], dtype=np.float32)
    odd.view(np.uint32)[1] = 0xFFC00123  # another NaN
    assert fingerprint([replace(a, target=odd)]) == fingerprint([a])


@pytest.mark.parametrize(
    "changed",
    [
        {"item_id": "p2"},
        {"signal": "MAP"},
        {"interval": pd.Timedelta("2h")},
        {"start": pd.Timestamp("2896-10-10 00:32")},
        {"start": None},
        {"target": np.float32([80.0, np.nan, 82.5])},
        {"target": np.float32([80.0, np.nan, 82.0, np.nan])},
    ],
)
def test_any_change_of_what_is_used_counts(changed: dict[str, object]) -> None:
    assert fingerprint([replace(one(), **changed)]) != fingerprint([one()])


def test_a_series_is_valid_once_built() -> None:
    with pytest.raises(ValueError, match="float32"):
        replace(one(), target=np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="item_id"):
        replace(one(), item_id="")
