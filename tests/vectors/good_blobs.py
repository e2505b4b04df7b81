"""Vectors of good adapter blobs, and of one that must not be merged."""

from __future__ import annotations

import math
import struct

from tests.vectors.naive import (
    LEVELS,
    Block,
    Group,
    accepted,
    binding,
    blob,
    block,
    calibration,
    dense,
    explicit,
    f32,
    fourier,
    gain,
    known_answer,
    low_rank,
    metadata,
    vector,
    vera,
    with_,
)


def good_blobs() -> dict[str, bytes]:
    every = [dense(), fourier((1, 5)), explicit([0, 1, 130, 599]), low_rank(), vera()]
    flat = Group(2, 2, 1, 64, {0: [block(2, 8, 20)]}, count=8, seed=5, scaling=1.0)
    zero = Group(
        4,
        2,
        2,
        2,
        {0: [Block(2, [-5, 3, 0, 0], f32(0.1)), Block(2, [0, 0, 0, 7], f32(0.1))]},
        count=2,
        scaling=-1.0,
    )
    # Found by search: product and sum in one rounding, as a fused multiply-add does, give another float.
    fused = Group(4, 2, 1, 1, {0: [Block(2, [19869], f32(3e-5)), Block(2, [30544], f32(5e-6))]}, count=1, scaling=0.501)
    contracted = Group(7, 2, 1, 1, {0: [Block(2, [22849], float.fromhex("0x1.48f9bap-15"))]}, count=1)
    peak = Group(3, 2, 8, 8, {0: [Block(2, [32767] * 64, f32(1.0))]}, count=64, scaling=1.0, explicit=list(range(64)))
    return {
        "ok/dense-int8": accepted("the smallest adapter: two numbers", [dense()]),
        "ok/dense-int16": accepted("int16 numbers", [dense(dtype=2, rows=5, columns=3)]),
        "ok/dense-float32": accepted("float32 numbers, no scale", [dense(dtype=1, rows=4, columns=4)]),
        "ok/dense-zero-scale": accepted("a scale of zero is one", [Group(1, 2, 2, 1, {0: [Block(2, [0, 0], 0.0)]})]),
        "ok/fourier-int16": accepted("two tensors share their entries", [fourier((1, 5))]),
        "ok/fourier-int8": accepted("int8 coefficients, odd sides", [fourier(dtype=3, rows=7, columns=9)]),
        "ok/fourier-one-row": accepted("a period of 1 has a flat wave", [flat]),
        "ok/fourier-one-column": accepted("a vector's spectrum", [fourier(rows=40, columns=1, count=3)]),
        "ok/fourier-half": accepted("half of all entries from a seed", [fourier(rows=4, columns=6, count=12)]),
        "ok/fourier-largest-seed": accepted("all bits of a seed count", [fourier(seed=2**32 - 1)]),
        "ok/fourier-square": accepted("a square of even sides: rows mirror", [fourier(rows=16, columns=16, count=20)]),
        "ok/explicit": accepted("first and last entry, gaps of one and two bytes", [explicit([0, 1, 130, 599])]),
        "ok/explicit-int8": accepted("int8 coefficients", [explicit([17, 500], dtype=3)]),
        "ok/explicit-all": accepted("every entry at the largest coefficient", [peak]),
        "ok/explicit-two-records": accepted(
            "the bytes of the entries decide the order", [explicit([3, 9]), explicit([4, 9], 5)]
        ),
        "ok/low-rank-int16": accepted("", [low_rank()]),
        "ok/low-rank-int8": accepted("", [low_rank(dtype=3, rank=1)]),
        "ok/low-rank-zeros": accepted("a sum of zero has no sign, and the scaling is negative", [zero]),
        "ok/low-rank-contraction": accepted("contracting product and sum gives another weight", [fused]),
        "ok/vera-int16": accepted("", [vera()]),
        "ok/vera-int8": accepted("wider than a reader's tile", [vera(dtype=3, columns=70, rank=3)]),
        "ok/gain-rows": accepted("a number for each row", [gain()]),
        "ok/gain-columns": accepted("a number for each column", [gain(side=2, dtype=3)]),
        "ok/gain-vector": accepted("a vector's own numbers", [gain(rows=9, columns=1)]),
        "ok/gain-contraction": accepted("contracting product and sum gives another weight", [contracted]),
        "ok/gain-beside-others": accepted(
            "two sides of one shape, between the other kinds and the rest",
            [dense(), low_rank(), gain(), gain(7, side=2)],
            [known_answer(), binding()],
            version=2,
        ),
        "ok/every-kind": accepted("all kinds", every, [calibration(), known_answer(), metadata()]),
        "ok/calibration-int8": accepted("", [dense()], [calibration(3)]),
        "ok/calibration-float32": accepted("", [dense()], [calibration(1, LEVELS, 4)]),
        "ok/calibration-overflow": accepted(
            "what is beyond all floats becomes infinite, for the reader to refuse",
            [dense()],
            [with_(calibration(1, LEVELS, 1), data=struct.pack("<3f", f32(3e38), f32(-3e38), 0.5))],
        ),
        "ok/bound": accepted("it says what it is for", [dense()], [binding()], version=2),
        "ok/bound-every-kind": accepted(
            "all kinds", every, [calibration(), known_answer(), metadata(), binding()], version=2
        ),
        "ok/bound-by-name": accepted(
            "another domain's signal: no code, no unit, no length of a step, no range",
            [dense()],
            [binding(b"OT", b"", b"", system=0, interval_us=0, low=-math.inf, high=math.inf)],
            version=2,
        ),
        "ok/bound-largest": accepted(
            "every field at its limit",
            [dense()],
            [
                binding(
                    b"a name " + b"~" * 57,
                    b"c" * 32,
                    b"u" * 32,
                    interval_us=10**15,
                    low=f32(-3e38),
                    high=f32(3e38),
                    context=8192,
                    prediction=8192,
                )
            ],
            version=2,
        ),
        "ok/forced": accepted("accepted by hand", [dense()], flags=1),
        "ok/largest-version": accepted("64 bits", [dense()], adapter_version=2**64 - 1),
        "ok/metadata-numbers": accepted(
            "every form of canonical JSON",
            [dense()],
            [
                metadata(
                    b'{"":[],"a":[{},[[[[[[0]]]]]]],"b":-1.5,"c":[0.0001,123456789012345.0,0.3,10.25],"d":-123456789012345678,"e":[true,false,null]}'
                )
            ],
        ),
    }


def merges() -> dict[str, bytes]:
    huge = Group(1, 2, 2, 1, {0: [Block(2, [1, 0], f32(3e38))]})
    head = [
        ("what", "blob"),
        ("expect", "MergeError 310"),
        ("comment", "a merged weight is not finite"),
        ("base", "largest"),
    ]
    return {"merge/overflow": vector(head, blob([huge.record()]))}
