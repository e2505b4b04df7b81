"""Merged bits on other processors: the core cross-compiled and run under qemu-user, beside numpy, at real shapes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import encode
from device_runtime.format.delta import Dense, Dtype

from .conftest import SOURCE, need, run
from .test_core_parity import deltas_of

MERGE = r"""
#include "etsa.h"
#include <stdio.h>
#include <stdlib.h>
static uint8_t *slurp(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(1 << 24);
    *size = fread(data, 1, 1 << 24, file);
    return data;
}
int main(int argc, char **argv)
{
    size_t blob_size, base_size, at = 0;
    uint8_t *blob = slurp(argv[1], &blob_size), *base = slurp(argv[2], &base_size);
    etsa_adapter adapter;
    etsa_delta delta = {0};
    if (argc != 3 || etsa_decode(blob, blob_size, &adapter) != ETSA_OK) return 1;
    size_t need = etsa_scratch_count(&adapter);
    int64_t *scratch = malloc((need + 1) * sizeof *scratch);
    while (etsa_next(&adapter, &delta)) {
        size_t count = (size_t)delta.rows * delta.columns;
        float *merged = malloc(count * sizeof *merged);
        if (etsa_merge(&delta, base + at, merged, scratch, need) != ETSA_OK) return 2;
        fwrite(merged, sizeof *merged, count, stdout);
        at += 4 * count;
    }
    return at == base_size ? 0 : 3;
}
"""
PROCESSORS = {
    "this machine": ("cc", None),
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64-static"),
    "armhf": ("arm-linux-gnueabihf-gcc", "qemu-arm-static"),
}
SHAPES = [(256, 256), (1024, 256), (384, 64), (5, 3), (33, 257)]  # Chronos' own, and odd ones


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("-Os",), ("-O3", "-ffp-contract=fast")], ids=["small", "contracting"])
@pytest.mark.parametrize("processor", PROCESSORS)
def test_merged_bits_are_numpys(processor: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    compiler, emulator = PROCESSORS[processor]
    need(compiler, *([emulator] if emulator else []))
    source, binary = tmp_path / "merge.c", tmp_path / "merge"
    source.write_text(MERGE)
    core = [SOURCE / "etsa" / "etsa.c", SOURCE / "etsa" / "etsa_sha256.c"]
    done = run(compiler, "-std=c99", *flags, "-static", "-I", SOURCE / "etsa", source, *core, "-o", binary)
    assert done.returncode == 0, done.stderr
    for shape in SHAPES:
        dtypes: tuple[Dtype, ...] = ("int16", "int8")
        for dtype in dtypes:
            draw = np.random.default_rng(sum(shape))
            every = deltas_of(*shape, dtype, draw)
            # Dense ones of larger tensors do not fit a blob.
            kept = [delta for delta in every.values() if not isinstance(delta, Dense) or shape[0] * shape[1] <= 65_536]
            deltas = dict(enumerate(kept))
            base = [draw.normal(size=shape).astype("<f4") for _ in deltas]
            blob = encode(Adapter(base_digest=bytes(32), version=1, deltas=deltas))
            (tmp_path / "a.etsa").write_bytes(blob)
            # The blob has its records in an order of its own; bases follow it.
            order = record_order(blob)
            (tmp_path / "base").write_bytes(b"".join(base[i].tobytes() for i in order))
            command = [*([emulator] if emulator else []), binary, tmp_path / "a.etsa", tmp_path / "base"]
            got = subprocess.run([str(part) for part in command], capture_output=True, check=True).stdout
            wide = [weights.astype(np.float64) for weights in base]
            wanted = [(wide[i] + deltas[i].dense(wide[i])).astype("<f4").tobytes() for i in order]
            assert got == b"".join(wanted), (shape, dtype)


def record_order(blob: bytes) -> list[int]:
    """Tensor indices in the order of the blob's records."""
    order: list[int] = []
    for number in range(int.from_bytes(blob[12:14], "little")):
        record = blob[64 + 32 * number : 96 + 32 * number]
        count, offset = int.from_bytes(record[2:4], "little"), int.from_bytes(record[24:28], "little")
        order += np.frombuffer(blob, "<u2", count, offset).tolist()
    return order
