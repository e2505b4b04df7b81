"""Free a torch model's weights while the runtime has them: a session of a large base takes twice their size."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

WORTH = 2**26  # bytes: below, asking the system takes longer than it is worth
_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD


@contextlib.contextmanager
def set_aside(model: Any, originals: Mapping[str, FloatArray]) -> Iterator[None]:
    """Give back the memory of the parameters that ``originals`` names for the duration of a ``with``.

    Inside they keep their shapes, types and devices, and hold zeros. Afterwards they have their numbers again, read
    from ``originals`` (a file, see `export.folder.StoredTensors`), to the bit and in memory of their own: what else
    pointed to their old memory points there still.
    """
    parameters = {name: model.get_parameter(name) for name in originals}
    try:
        for parameter in parameters.values():
            parameter.data = parameter.new_zeros(()).expand(parameter.shape)
        for name, other in (*model.named_parameters(), *model.named_buffers()):
            if name not in parameters:  # a checkpoint is mapped whole for as long as one tensor lies in it
                other.data = other.data.clone()
        if sum(parameter.nbytes for parameter in parameters.values()) >= WORTH:
            give_back()
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = torch.from_numpy(np.array(originals[name])).to(parameter)


def give_back() -> None:
    """Return freed memory to the system, and have blocks of 1 MB and more returned as they are freed from now on.

    glibc keeps what a heap has freed, and puts blocks of up to 32 MB there once it has seen some of that size: a
    session that turns weight after weight round then holds most of them twice.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library, another system
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 1 << 20)
        library.malloc_trim(0)
