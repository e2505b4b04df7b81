"""What the columns of a table are; the rules are the device's, in `device_runtime.series`."""

from collections.abc import Sequence

from device_runtime.series.id_names import id_tier
from device_runtime.series.layouts import Layout

__all__ = ["Layout", "names_an_id"]


def names_an_id(columns: Sequence[str]) -> bool:
    """Return whether some column is named like an id."""
    return any(id_tier(name) for name in columns)
