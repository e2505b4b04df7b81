"""Who takes part in a roll-out: a pure function of salt and device, the same on device and publisher.

``u = SHA-256(salt, 0x00, device_id)[0:8] / 2^64``; a device takes part when ``u < permille / 1000``. Raising the share
never takes a device out; another salt draws another order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection


def position(salt: str, device_id: str) -> int:
    """Return a device's place in ``[0, 2^64)``."""
    return int.from_bytes(hashlib.sha256(salt.encode() + b"\0" + device_id.encode()).digest()[:8], "big")


def takes_part(
    salt: str, device_id: str, permille: int, *, groups: Collection[str] = (), own_groups: Collection[str] = ()
) -> bool:
    """Whether a device takes part: by its place, or because one of its own groups was named."""
    return bool(set(groups) & set(own_groups)) or position(salt, device_id) * 1000 < permille << 64
