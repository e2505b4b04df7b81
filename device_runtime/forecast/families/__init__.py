"""The model families, a module for each: how its graphs are run, and what its manifest must say.

`FAMILIES` is the only place where the runtime chooses between them: a manifest's ``family`` → what opens a bundle with
merged tensors (index in the table → tensor).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.bolt import BoltModel, ShiftedBolt
from device_runtime.forecast.families.chronos2 import Chronos2Model
from device_runtime.forecast.families.model import Model
from device_runtime.forecast.families.t5 import T5Model
from device_runtime.forecast.session import SessionSettings

Open = Callable[[Bundle, Mapping[int, NDArray[np.float32]], SessionSettings], Model]
FAMILIES: Mapping[str, Open] = MappingProxyType(
    {"chronos-bolt": BoltModel, "chronos-t5": T5Model, "chronos-2": Chronos2Model}
)
# Families that a learning graph is made for: what runs its shifted one.
SHIFTED_FAMILIES: Mapping[str, Callable[[Bundle, Mapping[int, NDArray[np.float32]], SessionSettings], ShiftedBolt]] = (
    MappingProxyType({"chronos-bolt": ShiftedBolt})
)
