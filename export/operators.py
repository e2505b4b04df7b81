"""ONNX operators named as such, where torch's own arrive in a graph as several nodes, or as copies.

Each is one node in a graph, and computes the same in torch where none is being written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from export.graph import OPSET


def reshaped(x: Tensor, target: Sequence[int], shape: Sequence[Any]) -> Tensor:
    """Reshape ``x`` to ``shape``, which ``target`` says in ONNX's constants: 0 keeps a dimension, -1 is what is left.

    torch's own reshape computes every dynamic dimension anew: a Shape, a Squeeze, a Reshape and a Concat each time.
    """
    if not torch.onnx.is_in_onnx_export():
        return x.reshape(tuple(shape))
    return torch.onnx.ops.symbolic(
        "Reshape", (x, torch.tensor(list(target))), dtype=x.dtype, shape=tuple(shape), version=OPSET
    )


def counted(x: Tensor, axis: int) -> Tensor:
    """Return ``0, 1, …`` up to the size of an axis of ``x``, as int64 ``[size]``."""
    if not torch.onnx.is_in_onnx_export():
        return torch.arange(x.shape[axis])
    size = torch.onnx.ops.symbolic(
        "Shape", (x,), {"start": axis, "end": axis + 1}, dtype=torch.int64, shape=(1,), version=OPSET
    ).squeeze()
    limits = (torch.tensor(0), size, torch.tensor(1))
    return torch.onnx.ops.symbolic("Range", limits, dtype=torch.int64, shape=(x.shape[axis],), version=OPSET)


def written(cache: Tensor, place: Tensor, row: Tensor) -> Tensor:
    """Return ``cache`` ``[P, T, width]`` with ``row`` ``[…, width]`` at the (path, step) pairs ``place`` ``[…, 2]``.

    ONNX's ScatterND: torch's own ``index_put`` arrives between transposes that change nothing but copy the whole cache.
    """
    if not torch.onnx.is_in_onnx_export():
        return cache.index_put(place.unbind(-1), row)
    return torch.onnx.ops.symbolic(
        "ScatterND", (cache, place, row), dtype=cache.dtype, shape=cache.shape, version=OPSET
    )


def thirds(x: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Take ``x`` apart in three along ``axis``.

    ONNX's Split: torch's own arrives as a sequence, of which every element is copied once more.
    """
    if not torch.onnx.is_in_onnx_export():
        return x.chunk(3, axis)
    shape = tuple(size // 3 if place == axis else size for place, size in enumerate(x.shape))
    parts: tuple[Tensor, ...] = tuple(
        torch.onnx.ops.symbolic_multi_out(
            "Split",
            (x,),
            {"axis": axis, "num_outputs": 3},
            dtypes=[x.dtype] * 3,
            shapes=[shape] * 3,
            version=OPSET,
        )
    )
    return parts
