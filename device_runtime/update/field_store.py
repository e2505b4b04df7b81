"""The file of field quality: sums of scores in the state folder, complete after a power cut, or started afresh.

It decides nothing by itself and holds no sample and no forecast. A power cut loses what was scored since the last write
(`QualityRules.save_seconds`), and the pending forecasts.
"""

from __future__ import annotations

from typing import Any

from device_runtime.errors import DeviceRuntimeError, FormatError, StorageError
from device_runtime.files import IrregularError
from device_runtime.quality.field import FieldQuality
from device_runtime.update import disk as files
from device_runtime.update.disk import Disk
from device_runtime.update.sealed import seal, unseal

QUALITY = "quality"
MAX_SIZE = 4_194_304  # bytes: more than the most signals, forecasters, levels and digits come to


def load(disk: Disk, field: FieldQuality) -> str:
    """Continue with the sums on the disk; return why they start afresh, empty if they do not."""
    try:
        data = disk.read(QUALITY, MAX_SIZE)
        if data is not None:
            field.restore(unseal(data, QUALITY))
    except (FormatError, IrregularError, StorageError) as error:
        return f"the quality file cannot be used, figures begin anew: {error}"
    return ""


def save(disk: Disk, field: FieldQuality) -> None:
    """Write the sums durably. Raises `StorageError`."""
    files.replace(disk, QUALITY, seal({**field.to_value(), "published": field.published()}))


def published(disk: Disk) -> dict[str, Any]:
    """Return what a report says of the field quality; nothing where there is no whole file."""
    try:
        data = disk.read(QUALITY, MAX_SIZE)
        value = {} if data is None else unseal(data, QUALITY)["published"]
    except (DeviceRuntimeError, KeyError, TypeError):
        return {}
    return value if isinstance(value, dict) else {}
