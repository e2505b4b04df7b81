"""The C core of adaptation as a program and as a library, and a block of weights that both cores learn on."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import ForecastError

from .conftest import SOURCE, need, run

FloatArray = NDArray[np.float32]
LEVELS = tuple(round(0.1 * n, 1) for n in range(1, 10))
NORMAL = (-1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816)
LAYERS = ("hidden_layer", "output_layer", "residual_layer")
QUALITY = ("etsa_promotion.c", "etsa_evidence.c")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-pedantic", "-Werror")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLOATS = ctypes.POINTER(ctypes.c_float)
StateFn = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, FLOATS, ctypes.c_uint32, FLOATS, FLOATS, FLOATS)


def compiled(folder: Path, compiler: str, *flags: str, name: str = "adapt", program: str = "adapt") -> Path:
    """Compile the core with a program, by default the one that follows a script."""
    need(compiler)
    binary = folder / name
    sources = [Path(__file__).with_name(f"{program}_program.c"), *sorted((SOURCE / "learn").glob("*.c"))]
    sources.append(SOURCE / "etsa" / "etsa_tracking.c")
    sources += [SOURCE / "quality" / one for one in QUALITY]
    include = [part for name in ("learn", "quality", "etsa") for part in ("-I", SOURCE / name)]
    done = run(compiler, *STRICT, *flags, *include, *sources, "-o", binary, "-lm")
    assert done.returncode == 0, done.stderr
    return binary


class Block(ctypes.Structure):
    """etl_block."""

    _fields_ = [
        *(
            (name, ctypes.c_uint32)
            for name in ("state_size", "hidden_size", "level_count", "prediction_length", "steps")
        ),
        *((f"{layer}_{kind}", ctypes.c_void_p) for layer in LAYERS for kind in ("weight", "bias")),
        ("levels", ctypes.c_void_p),
    ]


class Window(ctypes.Structure):
    """etl_window."""

    _fields_ = [
        ("state", ctypes.c_void_p), ("loc", ctypes.c_float), ("scale", ctypes.c_float), ("varies", ctypes.c_bool),
        ("target", ctypes.c_void_p),
    ]  # fmt: skip


def library_of(folder: Path) -> ctypes.CDLL:
    """The same as a library."""
    library = ctypes.CDLL(str(compiled(folder, "cc", "-O2", "-shared", "-fPIC", name="adapt.so")))
    for name in ("follow", "etl_scratch_size", "eta_memory"):
        getattr(library, name).restype = ctypes.c_size_t
    for name in ("etl_varies", "etl_gradient", "made_up"):
        getattr(library, name).restype = ctypes.c_bool
    return library


@dataclass
class Weights:
    """A block, and its base's levels and horizon."""

    weights: dict[str, FloatArray]
    levels: tuple[float, ...] = LEVELS
    horizon: int = 8

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(self.weights[f"{layer}.bias"]) for layer in LAYERS)

    @property
    def bytes(self) -> bytes:
        """As the script has them."""
        arrays = [self.weights[f"{layer}.{kind}"].astype("<f4") for layer in LAYERS for kind in ("weight", "bias")]
        return np.array(self.levels).tobytes() + b"".join(one.tobytes() for one in arrays)


def made_up(seed: int, *, off: float = 0.0) -> Weights:
    """A block on the program's made-up states: quantiles of a random walk, off by so much of the context's spread."""
    rng, made = np.random.default_rng(seed), len(LEVELS) * 8
    shapes = {"hidden_layer": (12, 8), "output_layer": (made, 12), "residual_layer": (made, 8)}
    weights = {}
    for layer, (rows, columns) in shapes.items():
        weights[f"{layer}.weight"] = (0.1 * rng.normal(size=(rows, columns))).astype(np.float32)
        weights[f"{layer}.bias"] = np.zeros(rows, dtype=np.float32)
    weights["residual_layer.weight"][:, 0] += np.float32(0.8)
    weights["output_layer.bias"] += (0.6 * np.repeat(NORMAL, 8) + off).astype(np.float32)
    return Weights(weights)


class OfBlock:
    """A `Learnable` over a block's states, by the C functions for its forecast and its gradient.

    What is compared is everything around them: `test_learning.py` compares them with the learning graph.
    """

    def __init__(self, core: ctypes.CDLL, block: Weights, context_length: int, *, calibrated: bool = False) -> None:
        self.core, self.block, self.context_length, self._calibrated = core, block, context_length, calibrated
        self.names, self.sizes, self.prediction_length = LAYERS, block.sizes, block.horizon
        self._held = {name: np.ascontiguousarray(one, dtype=np.float32) for name, one in block.weights.items()}
        self._levels = np.array(block.levels)

    def _c_block(self, steps: int) -> Block:
        hidden, state = self._held["hidden_layer.weight"].shape
        arrays = [self._held[f"{layer}.{kind}"].ctypes.data for layer in LAYERS for kind in ("weight", "bias")]
        sizes = (state, hidden, len(self._levels), self.prediction_length, steps)
        return Block(*sizes, *arrays, self._levels.ctypes.data)

    def _windows(self, context: FloatArray, target: FloatArray | None) -> tuple[Any, list[Any]]:
        windows, held = (Window * len(context))(), []
        for place, row in enumerate(np.ascontiguousarray(context, dtype=np.float32)):
            state, loc, scale = np.zeros(8, dtype=np.float32), ctypes.c_float(), ctypes.c_float()
            at = ctypes.c_void_p(row.ctypes.data)
            self.core.made_up(
                None, at, len(row), ctypes.c_void_p(state.ctypes.data), ctypes.byref(loc), ctypes.byref(scale)
            )
            varies = self.core.etl_varies(at, ctypes.c_size_t(len(row)), loc)
            aim = None if target is None else np.ascontiguousarray(target[place], dtype=np.float32)
            windows[place] = Window(state.ctypes.data, loc, scale, varies, None if aim is None else aim.ctypes.data)
            held.append((row, state, aim))
        return windows, held

    def forecast(self, context: FloatArray, steps: int, shift: FloatArray) -> FloatArray:
        block = self._c_block(steps)
        windows, _alive = self._windows(context, None)
        scratch = np.zeros(self.core.etl_scratch_size(ctypes.byref(block)) // 8)
        out = np.zeros((len(context), steps, len(self._levels)), dtype=np.float32)
        moved = np.ascontiguousarray(shift, dtype=np.float32)
        for place in range(len(context)):
            arrays = (ctypes.c_void_p(one.ctypes.data) for one in (scratch, out[place]))
            self.core.etl_forecast(
                ctypes.byref(block), ctypes.c_void_p(moved.ctypes.data), ctypes.byref(windows[place]), *arrays
            )
        if self._calibrated:  # as the program widens them
            out = np.sort(out, axis=-1)
            more = np.float32(0.05) * (np.arange(len(self._levels), dtype=np.float32) - 4)
            out = out + more * (out[..., -1:] - out[..., :1])
        if not np.isfinite(out).all():
            raise ForecastError("not finite")
        return out

    def gradients(self, context: FloatArray, target: FloatArray, shift: FloatArray) -> tuple[float, FloatArray]:
        block = self._c_block(target.shape[1])
        windows, _alive = self._windows(context, target)
        scratch = np.zeros(self.core.etl_scratch_size(ctypes.byref(block)) // 8)
        gradient, loss = np.zeros(sum(self.sizes), dtype=np.float32), ctypes.c_double()
        moved = np.ascontiguousarray(shift, dtype=np.float32)
        arrays = (ctypes.c_void_p(one.ctypes.data) for one in (scratch, gradient))
        good = self.core.etl_gradient(
            ctypes.byref(block), ctypes.c_void_p(moved.ctypes.data), windows, len(context), *arrays, ctypes.byref(loss)
        )
        if not good:
            raise ForecastError("not finite")
        return loss.value, gradient
