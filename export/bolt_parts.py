"""A Chronos-Bolt's own submodules, used by its graphs, and the first layers that all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.layers import BLOCKED, buckets, patched, standardise
from export.operators import reshaped


class BoltParts(nn.Module):
    """A Chronos-Bolt's own submodules and what every graph of it begins with."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        self.chronos: Any = model.chronos_config
        if model.instance_norm.use_arcsinh:
            raise ExportError("Chronos-Bolt with arcsinh scaling is not supported")
        # Adopted, not copied: parameter names stay those of the model.
        self.shared: Any = model.shared
        self.input_patch_embedding: Any = model.input_patch_embedding
        self.encoder: Any = model.encoder
        self.decoder: Any = model.decoder
        self.output_patch_embedding: Any = model.output_patch_embedding
        self.heads, self.width = config.num_heads, config.d_kv
        self.start_token = config.decoder_start_token_id
        self.use_reg_token = bool(self.chronos.use_reg_token)
        self.reg_token = config.reg_token_id if self.use_reg_token else 0
        self.quantile_count = len(self.chronos.quantiles)
        self.size, self.stride = self.chronos.input_patch_size, self.chronos.input_patch_stride
        self.most = math.ceil(self.chronos.context_length / self.size)  # whole patches side by side
        patches = (self.most - 1) * self.size // self.stride + 1 + int(self.use_reg_token)
        # Relative position of key minus query, for every distance that can occur: row of the bias table.
        distance = torch.arange(-(patches - 1), patches)
        self.buckets: Tensor
        rows = buckets(model.encoder.block[0].layer[0].SelfAttention, distance, bidirectional=True)
        self.register_buffer("buckets", rows, persistent=False)  # [2 * patches - 1]

    def embedded(self, context: Tensor, embed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scale contexts ``[B, L]``, cut them to patches and ``embed`` these: ``[B, P, 2 * size]`` to ``[B, P, D]``.

        Returns what the encoder reads ``[B, T, D]``, what keeps it from missing patches ``[B, 1, 1, T]``, and the
        contexts' loc and scale ``[B, 1]``.
        """
        scaled, mask, loc, scale = standardise(context)
        batch = context.shape[0]
        patched_mask = patched(mask, self.size, self.stride)  # [B, P, size]
        values = torch.cat([patched(scaled, self.size, self.stride), patched_mask], dim=-1)
        hidden = embed(values)  # [B, P, D]
        blocked = (patched_mask.amax(dim=-1) - 1.0) * -BLOCKED  # [B, P]
        if self.use_reg_token:
            reg = self.shared.weight[self.reg_token].expand(batch, 1, -1)
            hidden = torch.cat([hidden, reg], dim=1)
            blocked = nn.functional.pad(blocked, (0, 1))
        return hidden, reshaped(blocked, (0, 1, 1, -1), (batch, 1, 1, blocked.shape[1])), loc, scale

    def start(self) -> Tensor:
        """Return the decoder's one token ``[1, 1, D]``."""
        token: Tensor = self.shared.weight[self.start_token][None, None, :]
        return token

    def dimensions(self) -> tuple[Any, Any]:
        """Return a context's dynamic dimensions: any batch, and steps of any whole number of patches."""
        patches = torch.export.Dim("patches", min=1, max=max(2, self.most))
        return torch.export.Dim("batch", min=1, max=65_536), self.size * patches
