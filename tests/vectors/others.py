"""Vectors of manifests, signatures and the generator."""

from __future__ import annotations

import hashlib
import json
import struct

from tests.vectors.naive import CODES, blob, dense, entries, naive_quantise, projection, vector
from tests.vectors.odd_signatures import odd_ones


def manifest(**changes: object) -> bytes:
    value: dict[str, object] = {
        "base": {"licence": "Apache-2.0"},
        "context_length": 64,
        "dead": [],
        "family": "chronos-bolt",
        "files": {
            "forecast.onnx": {"sha256": "ab" * 32, "size": 1000},
            "tunable.safetensors": {"sha256": "0123456789abcdef" * 4, "size": 400},
        },
        "format": "edge-tsfm bundle",
        "format_version": 1,
        "graphs": {"forecast": {"file": "forecast.onnx", "tensors": [0, 1]}},
        "name": "tiny",
        "parameters": {"patch_size": 16},
        "precision": "float32",
        "prediction_length": 8,
        "quantile_levels": [0.1, 0.5, 0.9],
        "tensors": [
            {"name": "encoder.weight", "offset": 80, "shape": [8, 8]},
            {"name": "encoder.bias", "offset": 336, "shape": [16]},
        ],
        "tools": {},
    }
    value.update(changes)
    kept = {key: item for key, item in value.items() if item is not None}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode("ascii")


def manifests() -> dict[str, bytes]:
    good = manifest()

    def ok(comment: str, data: bytes, tensors: int, *more: tuple[str, object]) -> bytes:
        digest = hashlib.sha256(data).hexdigest()
        return vector(
            [
                ("what", "manifest"),
                ("expect", "ok"),
                ("comment", comment),
                ("digest", digest),
                ("tensors", tensors),
                *more,
            ],
            data,
        )

    def answered(comment: str, context: list[float], expected: list[float], tolerance: float) -> bytes:
        answer = {"context": context, "expected": expected, "tolerance": tolerance}
        floats = struct.pack(f"<{len(context) + len(expected)}f", *context, *expected)
        low, high = (struct.unpack("<f", struct.pack("<f", end(context)))[0] for end in (min, max))
        widest = (high - low) / 50 + max(abs(low), abs(high)) / 50_000
        bits = " ".join(struct.pack(">d", number).hex() for number in (tolerance, widest))
        line = f"{len(context)} {len(expected)} {bits} {hashlib.sha256(floats).hexdigest()}"
        return ok(comment, manifest(known_answer=answer), 2, ("known_answer", line))

    def bad(comment: str, data: bytes, error: str = "FormatError") -> bytes:
        return vector([("what", "manifest"), ("expect", f"{error} {CODES[error]}"), ("comment", comment)], data)

    def tensor(shape: list[int], offset: object = 80) -> bytes:
        return manifest(tensors=[{"name": "x", "offset": offset, "shape": shape}], graphs={})

    def file(name: str, **changes: object) -> bytes:
        files = {
            "tunable.safetensors": {"sha256": "00" * 32, "size": 400},
            name: {"sha256": "11" * 32, "size": 1, **changes},
        }
        return manifest(files=files, graphs={})

    def quantised(flag: object = True, *, version: int = 3, shape: tuple[int, ...] = (8, 8), **more: object) -> bytes:
        first = {"name": "encoder.weight", "offset": 80, "quantised": flag, "shape": list(shape), **more}
        second = {"name": "encoder.bias", "offset": 336, "shape": [16]}
        return manifest(format_version=version, precision="int8-merged", tensors=[first, second])

    missing = (
        "context_length",
        "family",
        "files",
        "graphs",
        "name",
        "parameters",
        "precision",
        "prediction_length",
        "quantile_levels",
        "tensors",
    )
    return {
        "manifest/ok": ok("a small bundle", good, 2),
        "manifest/ok-unknown-field": ok(
            "fields that a reader does not know are passed over", manifest(zebra=[{"a": "}"}]), 2
        ),
        "manifest/ok-known-answer": answered("what the base alone forecasts", [80, 81.5], [80.5], 0.01),
        "manifest/ok-known-answer-rounded": answered(
            "numbers that float32 rounds, of up to 18 digits, and below zero",
            [-0.1, 123456789012345678, 3.3, 16777217, 0, -98765.4321012345],
            [0.7, -999999999999999.0, 33554435, 0.0001],
            0.123456789012345,
        ),
        "manifest/ok-known-answer-longest": answered(
            "the most numbers there may be", [i / 8 for i in range(512)], [-i / 4 for i in range(1, 1025)], 1.5
        ),
        **{
            f"manifest/answer-{name}": bad(comment, manifest(known_answer=answer))
            for name, comment, answer in (
                ("list", "an answer that is a list", []),
                ("empty", "an answer of nothing", {}),
                ("context", "an answer to no context", {"context": [], "expected": [80.5], "tolerance": 0.01}),
                ("long", "513 numbers", {"context": [80] * 513, "expected": [80.5], "tolerance": 0.01}),
                ("text", "a number as text", {"context": [80], "expected": ["80.5"], "tolerance": 0.01}),
                ("true", "a truth value", {"context": [True], "expected": [80.5], "tolerance": 0.01}),
                ("tolerance", "a tolerance of 0", {"context": [80], "expected": [80.5], "tolerance": 0.0}),
            )
        },
        "manifest/ok-quantised": ok("a tensor in float16 that graphs take as integers", quantised(), 2),
        "manifest/quantised-vector": bad("a quantised tensor of one dimension", quantised(shape=(16,))),
        "manifest/quantised-past": bad("halves past the file", quantised(shape=(8, 21))),
        "manifest/quantised-text": bad("a truth value as text", quantised("true")),
        "manifest/quantised-old": bad("a quantised tensor in version 1", quantised(version=1)),
        "manifest/quantised-none": bad("version 3 without a quantised tensor", quantised(False)),
        "manifest/ok-no-tensor": ok("nothing to tune", manifest(tensors=[], graphs={}), 0),
        "manifest/empty": bad("no bytes", b"", "CanonicalError"),
        "manifest/cut": bad("the last byte is missing", good[:-1], "CanonicalError"),
        "manifest/newline": bad("a line end", good + b"\n", "CanonicalError"),
        "manifest/list": bad("not an object", b"[]"),
        "manifest/format": bad("another format", manifest(format="bundle")),
        "manifest/version": bad("version 2", manifest(format_version=2), "UnsupportedError"),
        "manifest/version-text": bad("a version as text", manifest(format_version="1"), "UnsupportedError"),
        **{f"manifest/missing-{key.replace('_', '-')}": bad(f"no {key}", manifest(**{key: None})) for key in missing},
        "manifest/context-negative": bad("a negative length", manifest(context_length=-1)),
        "manifest/context-decimal": bad("a length with a point", manifest(context_length=64.0)),
        "manifest/context-32-bits": bad("a length beyond 32 bits", manifest(context_length=2**32)),
        "manifest/context-zero": bad("a length of 0", manifest(context_length=0)),
        "manifest/context-long": bad("a length of 65,537", manifest(context_length=65_537)),
        "manifest/ok-longest": ok(
            "the longest there may be", manifest(context_length=65_536, prediction_length=65_536), 2
        ),
        "manifest/prediction-zero": bad("a length of 0", manifest(prediction_length=0)),
        "manifest/version-32-bits": bad(
            "a version beyond 32 bits", manifest(format_version=2**32 + 1), "UnsupportedError"
        ),
        "manifest/parameters-list": bad("parameters are a list", manifest(parameters=[])),
        "manifest/parameters-pairs": bad("parameters are pairs", manifest(parameters=[["patch_size", 16]])),
        "manifest/parameters-text": bad("parameters are an empty text", manifest(parameters="")),
        "manifest/levels-object": bad("levels are an object", manifest(quantile_levels={"0.5": 0.5})),
        "manifest/levels-many": bad(
            "1,025 levels", manifest(quantile_levels=[round((i + 1) / 2000, 4) for i in range(1025)])
        ),
        "manifest/graphs-list": bad("graphs are a list", manifest(graphs=[])),
        "manifest/graphs-many": bad(
            "17 graphs", manifest(graphs={f"g{i:02}": {"file": "forecast.onnx", "tensors": []} for i in range(17)})
        ),
        "manifest/graph-list": bad("a graph is a list", manifest(graphs={"forecast": []})),
        "manifest/graph-tensors-object": bad(
            "a graph's tensors are an object", manifest(graphs={"forecast": {"file": "forecast.onnx", "tensors": {}}})
        ),
        "manifest/graph-tensors-text": bad(
            "a graph's tensors are an empty text",
            manifest(graphs={"forecast": {"file": "forecast.onnx", "tensors": ""}}),
        ),
        "manifest/graph-tensors-order": bad(
            "a graph's tensors descend", manifest(graphs={"forecast": {"file": "forecast.onnx", "tensors": [1, 0]}})
        ),
        "manifest/graph-tensors-twice": bad(
            "a graph's tensor comes twice",
            manifest(graphs={"forecast": {"file": "forecast.onnx", "tensors": [1, 1]}}),
        ),
        "manifest/files-list": bad("files are a list", manifest(files=[], graphs={}, tensors=[])),
        "manifest/files-many": bad(
            "65 files",
            manifest(
                files={
                    "tunable.safetensors": {"sha256": "00" * 32, "size": 400},
                    **{f"{i:02}.bin": {"sha256": "00" * 32, "size": 1} for i in range(64)},
                },
                graphs={},
            ),
        ),
        "manifest/file-text": bad("a file is a text", manifest(files={"tunable.safetensors": "x"}, graphs={})),
        "manifest/tensors-object": bad("tensors are an object", manifest(tensors={}, graphs={})),
        "manifest/tensors-text": bad("tensors are an empty text", manifest(tensors="", graphs={})),
        "manifest/tensor-shape-object": bad(
            "a shape is an object", manifest(tensors=[{"name": "x", "offset": 80, "shape": {}}], graphs={})
        ),
        "manifest/tensor-32-bits": bad(
            "an offset beyond 32 bits",
            manifest(
                files={"tunable.safetensors": {"sha256": "00" * 32, "size": 2**33}},
                tensors=[{"name": "x", "offset": 2**32, "shape": [1]}],
                graphs={},
            ),
        ),
        "manifest/levels-none": bad("no quantile levels", manifest(quantile_levels=[])),
        "manifest/levels-order": bad("levels descend", manifest(quantile_levels=[0.5, 0.1])),
        "manifest/levels-one": bad("a level of 1", manifest(quantile_levels=[0.5, 1.0])),
        "manifest/levels-zero": bad("a level of 0", manifest(quantile_levels=[0.0, 0.5])),
        "manifest/levels-text": bad("a level as text", manifest(quantile_levels=["0.5"])),
        "manifest/file-folder": bad("a file in a folder", file("a/b")),
        "manifest/file-hidden": bad("a hidden file", file("..")),
        "manifest/file-manifest": bad("the manifest pins itself", file("bundle.json")),
        "manifest/file-digest": bad("a digest of 63 digits", file("x", sha256="1" * 63)),
        "manifest/file-digest-case": bad("capital digits", file("x", sha256="A" * 64)),
        "manifest/file-size": bad("a negative size", file("x", size=-1)),
        "manifest/no-tunable": bad(
            "no tunable.safetensors",
            manifest(files={"forecast.onnx": {"sha256": "11" * 32, "size": 1}}, tensors=[]),
        ),
        "manifest/graph-file": bad(
            "a graph's file is not pinned", manifest(graphs={"forecast": {"file": "x.onnx", "tensors": []}})
        ),
        "manifest/graph-tensor": bad(
            "a graph's tensor is not in the table",
            manifest(graphs={"forecast": {"file": "forecast.onnx", "tensors": [2]}}),
        ),
        "manifest/tensor-scalar": bad("no dimension", tensor([])),
        "manifest/tensor-three": bad("three dimensions", tensor([2, 2, 2])),
        "manifest/tensor-zero": bad("a side of zero", tensor([0, 2])),
        "manifest/tensor-wide": bad("a side of 8,193", tensor([8193])),
        "manifest/tensor-past": bad("data past the file", tensor([8, 11])),
        "manifest/tensor-offset": bad("a negative offset", tensor([1], -4)),
        "manifest/tensor-name": bad(
            "a name that is a number", manifest(tensors=[{"name": 1, "offset": 80, "shape": [1]}], graphs={})
        ),
    }


def quantised_weights() -> dict[str, bytes]:
    """What graphs take for merged weights: integers row after row, then scales."""

    def of(comment: str, rows: list[list[float]]) -> bytes:
        data = struct.pack(f"<{len(rows) * len(rows[0])}f", *(number for row in rows for number in row))
        exact = list(struct.unpack(f"<{len(data) // 4}f", data))
        width = len(rows[0])
        made = [naive_quantise(exact[start : start + width]) for start in range(0, len(exact), width)]
        out = struct.pack(f"<{len(exact)}b", *(number for integers, _ in made for number in integers))
        out += struct.pack(f"<{len(made)}f", *(scale for _, scale in made))
        head = [("what", "quantised"), ("expect", "ok"), ("comment", comment), ("shape", f"{len(rows)} {width}")]
        return vector([*head, ("digest", hashlib.sha256(out).hexdigest())], data)

    def bad(comment: str, number: float) -> bytes:
        head = [("what", "quantised"), ("expect", f"MergeError {CODES['MergeError']}"), ("comment", comment)]
        return vector([*head, ("shape", "2 2")], struct.pack("<4f", 1, 2, 3, number))

    least = 2.0**-100
    return {
        "quantised/ok": of("some weights", [[0.1 * i - 0.07 * j * j for j in range(9)] for i in range(1, 6)]),
        "quantised/ok-ties": of(
            "halves of a step, rounded to even", [[64.0, *(n + 0.5 for n in range(-64, 64)), -0.0, 63.49999]]
        ),
        "quantised/ok-empty": of("zeros, and rows too small for steps", [[0.0, -0.0], [least / 2, 0], [1e-45, -1e-40]]),
        "quantised/ok-small": of("the smallest row with steps, subnormals in it", [[least, -least / 2, 1e-42]]),
        "quantised/ok-large": of("the largest floats", [[3.4028234663852886e38, -3.4028234663852886e38, 1e37, 1.0]]),
        "quantised/nan": bad("not a number", float("nan")),
        "quantised/infinite": bad("an infinity", float("-inf")),
    }


def signed() -> dict[str, bytes]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    payload = blob([dense().record()])
    ours, others = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (7, 8))
    key = ours.public_key().public_bytes_raw()

    def sign(
        private: Ed25519PrivateKey,
        data: bytes = payload,
        *,
        version: int = 1,
        algorithm: int = 1,
        prefix: bytes = b"edge-tsfm adapter v1\0",
    ) -> bytes:
        public = private.public_key().public_bytes_raw()
        head = b"ETSG" + struct.pack("<HH", version, algorithm) + hashlib.sha256(public).digest()[:8]
        return head + private.sign(prefix + data)

    def of(comment: str, data: bytes, good: bool = False, trusted: bytes = key) -> bytes:
        expect = "ok" if good else f"SignatureError {CODES['SignatureError']}"
        return vector([("what", "signed"), ("expect", expect), ("comment", comment), ("key", trusted.hex())], data)

    def odd(comment: str, trusted: bytes, signature: bytes) -> bytes:
        head = b"ETSG" + struct.pack("<HH", 1, 1) + hashlib.sha256(trusted).digest()[:8]
        return of(comment, payload + head + signature, trusted=trusted)

    mine, other = sign(ours), sign(others)
    odd_made = odd_ones(b"edge-tsfm adapter v1\0" + payload, bytes([7]) * 32)
    return {
        **{f"signed/{name}": odd(*made) for name, made in odd_made.items()},
        "signed/ok": of("one signature", payload + mine, True),
        "signed/ok-second": of("another key's comes first", payload + other + mine, True),
        "signed/ok-eight": of("the most there may be", payload + other * 7 + mine, True),
        "signed/ok-newer-beside": of("a version to come is passed over", payload + sign(ours, version=2) + mine, True),
        "signed/none": of("no signature", payload),
        "signed/other-key": of("only another key's", payload + other),
        "signed/other-blob": of("over other bytes", payload + sign(ours, payload + b"\0")),
        "signed/no-prefix": of("over the blob alone", payload + sign(ours, prefix=b"")),
        "signed/version": of("only a version to come", payload + sign(ours, version=2)),
        "signed/algorithm": of("only another algorithm", payload + sign(ours, algorithm=2)),
        "signed/damaged": of("one bit", payload + mine[:-1] + bytes([mine[-1] ^ 1])),
        "signed/key-id": of("our signature under another key's id", payload + mine[:8] + other[8:16] + mine[16:]),
        "signed/cut": of("a byte is missing", payload + mine[:-1]),
        "signed/magic": of("something else behind a good one", payload + mine + b"ETSH" + mine[4:]),
        "signed/nine": of("more than there may be", payload + other * 8 + mine),
    }


def generator() -> dict[str, bytes]:
    def drawn(seed: int, rows: int, columns: int, count: int) -> bytes:
        head = [
            ("what", "entries"),
            ("expect", "ok"),
            ("seed", seed),
            ("rows", rows),
            ("columns", columns),
            ("count", count),
        ]
        return vector(head, struct.pack(f"<{count}I", *entries(seed, rows, columns, count)))

    def projected(seed: int, stream: int, rank: int, width: int) -> bytes:
        head = [
            ("what", "projection"),
            ("expect", "ok"),
            ("seed", seed),
            ("stream", stream),
            ("rank", rank),
            ("width", width),
        ]
        numbers = [projection(seed, stream, k, j) for k in range(rank) for j in range(width)]
        return vector(head, struct.pack(f"<{len(numbers)}h", *numbers))

    return {
        "generator/entries": drawn(2024, 256, 256, 100),
        "generator/entries-seed-0": drawn(0, 256, 64, 50),
        "generator/entries-largest-seed": drawn(2**32 - 1, 8192, 8192, 16),
        "generator/entries-half": drawn(1, 5, 5, 12),
        "generator/entries-two": drawn(3, 1, 2, 1),
        "generator/projection-a": projected(2024, 2, 4, 12),
        "generator/projection-b": projected(2**32 - 1, 3, 3, 20),
    }
