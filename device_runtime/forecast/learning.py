"""A base's learning graphs in ONNX Runtime: the loss, its gradient by a shift, and the forecast with the shift added.

`LearningSession` is a `device_runtime.adapt.learnable.Learnable`. A shift is added to the biases of the running
forecaster, or as coefficients to its weights' spectra: the base's, with an adapter merged if one runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_runtime.errors import ForecastError, InputError, StorageError, UnsupportedError
from device_runtime.files import about, read_bounded
from device_runtime.forecast.adapters import read_adapter
from device_runtime.forecast.bundle import Bundle, read_manifest
from device_runtime.forecast.families import SHIFTED_FAMILIES
from device_runtime.forecast.families.patches import whole_patches
from device_runtime.forecast.known_answer import prove, unproven
from device_runtime.forecast.merge import merge
from device_runtime.forecast.quantiles import ascending, calibrate
from device_runtime.forecast.session import SessionSettings, open_session, run_all
from device_runtime.forecast.threads import settled
from device_runtime.format.adapter import Adapter
from device_runtime.format.learning import GRADIENT, LEARNING_FILE, Learning
from device_runtime.format.manifest import MAX_MANIFEST_SIZE

FloatArray = NDArray[np.float32]


class LearningSession:
    """A base, perhaps an adapter, and how the loss of a batch moves with a shift."""

    def __init__(
        self,
        bundle: Bundle,
        learning: Learning,
        merged: Mapping[int, FloatArray],
        adapter: Adapter | None = None,
        settings: SessionSettings | None = None,
    ) -> None:
        manifest = bundle.manifest
        self.bundle, self.learning, self.adapter = bundle, learning, adapter
        self.names, self.sizes = learning.names, learning.sizes(manifest)
        bound = adapter.binding if adapter else None
        self.context_length = min(manifest.context_length, bound.context_length if bound else manifest.context_length)
        self.prediction_length = min(
            manifest.prediction_length, bound.prediction_length if bound else manifest.prediction_length
        )
        settings = settled(bundle, settings or SessionSettings())
        with bundle.in_memory():
            self._model = SHIFTED_FAMILIES[manifest.family](bundle, merged, settings)
            self._gradient = open_session(bundle, GRADIENT, merged, settings)

    @classmethod
    def open(
        cls,
        bundle: Path | str,
        adapter: bytes | Path | str | None = None,
        *,
        settings: SessionSettings | None = None,
    ) -> LearningSession:
        """Open a bundle's learning graphs, every file checked, merge the running adapter and prove the merge.

        ``adapter`` is a blob's bytes or path, as `Forecaster.open` takes it. Raises `StorageError` for a bundle
        without learning graphs or with a file that cannot be read, `UnsupportedError` for a family that has none, and
        what `Forecaster.open` raises.
        """
        base, learning = open_learning(Path(bundle))
        decoded = None if adapter is None else read_adapter(base.manifest, adapter)[0]
        with base.in_memory():  # what is merged into is what the sessions are opened with
            merged = {} if decoded is None else merge(base.manifest, base.tensor, decoded)
            session = cls(base, learning, merged, decoded, settings)
        still = np.zeros(session.size, dtype=np.float32)
        proven = prove(base.manifest, decoded, lambda context, size: session._model.probe(context, still, size))
        if proven is None and decoded is not None:
            raise unproven()
        return session

    @property
    def size(self) -> int:
        """How many numbers a shift has: n."""
        return sum(self.sizes)

    def gradients(self, context: ArrayLike, target: ArrayLike, shift: ArrayLike) -> tuple[float, FloatArray]:
        """Return training's loss of a batch, the mean over its scored steps, and the gradient ``[n]`` by the shift.

        ``context`` is ``[B, L]`` and ``target`` ``[B, H]``, both in the signal's unit with NaN for missing; ``shift``
        is ``[n]``. The loss is the pinball loss in units of each context's deviation (FORMAT.md). A batch that scores
        nothing has loss 0 and a gradient of zeros. Raises `InputError` for other shapes or infinite values, and
        `ForecastError` when the loss or the gradient is not finite.
        """
        contexts = self._contexts(context)
        targets = finite_or_missing("target", target)
        length = self.bundle.manifest.prediction_length
        if targets.ndim != 2 or len(targets) != len(contexts) or not 1 <= targets.shape[1] <= length:
            raise InputError(f"target: want [{len(contexts)}, H] with H from 1 to {length}, got {list(targets.shape)}")
        padded = np.full((len(targets), length), np.nan, dtype=np.float32)
        padded[:, : targets.shape[1]] = targets
        feed = {
            "context": whole_patches(contexts, self._model.patch_size),
            "target": padded,
            "shift": self._shift(shift, ()),
        }
        results = run_all(self._gradient, feed)
        loss, gradient = float(results["loss"]), results["gradient"]
        if not np.isfinite(loss) or not np.isfinite(gradient).all():
            raise ForecastError("the loss or its gradient is not finite", hint="reset what was learnt")
        return loss, gradient

    def forecast(self, context: ArrayLike, steps: int, shift: ArrayLike) -> FloatArray:
        """Forecast contexts ``[B, L]`` with a shift: quantiles ``[B, steps, Q]`` as `Forecaster` has them.

        ``shift`` is ``[n]`` for all rows or ``[B, n]``, one for each. The adapter's calibration is applied. Raises
        `InputError`, and `ForecastError` when a quantile is not finite.
        """
        contexts = self._contexts(context)
        if not 1 <= steps <= self.prediction_length:
            raise InputError(f"steps {steps}: want 1 to {self.prediction_length}")
        if len(empty := np.flatnonzero(np.isnan(contexts).all(axis=1))):
            raise InputError(
                f"context: row {int(empty[0])} has no observed value", hint="a forecast needs at least one"
            )
        rows = np.broadcast_to(self._shift(shift, (len(contexts),)), (len(contexts), self.size))
        quantiles = ascending(self._model.predict(contexts, rows, steps))
        if self.adapter is not None and self.adapter.calibration is not None:
            quantiles = calibrate(quantiles, self.adapter.calibration)
        if not np.isfinite(quantiles).all():
            raise ForecastError("the shifted model's quantiles are not finite", hint="reset what was learnt")
        return quantiles

    def raw(self, context: FloatArray, shift: FloatArray) -> FloatArray:
        """Return what one run of the shifted graph says, neither sorted nor calibrated: ``[B, H, Q]``."""
        return self._model.predict(context, shift, self.bundle.manifest.prediction_length)

    def _contexts(self, context: ArrayLike) -> FloatArray:
        """Check contexts ``[B, L]`` and cut them to what the running forecaster reads."""
        contexts = finite_or_missing("context", context)
        if contexts.ndim != 2 or contexts.size == 0:
            raise InputError(f"context: want shape [B, L] with at least one value, got {list(contexts.shape)}")
        return contexts[:, -self.context_length :]

    def _shift(self, shift: ArrayLike, rows: tuple[int, ...]) -> FloatArray:
        """Check a shift: ``[n]``, or ``[*rows, n]`` where there are rows."""
        try:
            array = np.ascontiguousarray(shift, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"shift: want numbers: {error}") from error
        if array.shape not in {(self.size,), (*rows, self.size)}:
            raise InputError(f"shift: want {[*rows, self.size]} numbers, got {list(array.shape)}")
        if not np.isfinite(array).all():
            raise InputError("shift: has values that are not finite")
        return array


def open_learning(folder: Path) -> tuple[Bundle, Learning]:
    """Open a bundle with its learning graphs among its own, every file checked against the two manifests.

    Raises as `Bundle.open`, and `StorageError` where there is no learning manifest, `BaseMismatchError` for one of
    another base, `UnsupportedError` for a family that this runtime does not shift.
    """
    manifest, learning = read_manifest(folder), read_learning(folder)
    with about(folder):
        if manifest.family not in SHIFTED_FAMILIES:
            raise UnsupportedError(
                f"learning graphs of family {manifest.family!r}; this runtime knows {', '.join(SHIFTED_FAMILIES)}"
            )
        return Bundle.of(folder, learning.on(manifest)), learning


def read_learning(folder: Path) -> Learning:
    """Read a bundle's learning manifest alone. Raises `StorageError` where there is none, and as `Learning.parse`."""
    file = folder / LEARNING_FILE
    if not file.exists():
        raise StorageError(
            f"{folder} has no learning graphs: there is no {LEARNING_FILE}",
            hint=f"add them with edge-tsfm export learning {folder}",
        )
    with about(folder):
        return Learning.parse(read_bounded(file, MAX_MANIFEST_SIZE))


def finite_or_missing(what: str, values: ArrayLike) -> FloatArray:
    """Return numbers as float32, NaN among them. Raises `InputError` for infinite ones and for what is no number."""
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: want numbers: {error}") from error
    if np.isinf(array).any():
        raise InputError(f"{what}: has infinite values; missing values are NaN")
    return array
