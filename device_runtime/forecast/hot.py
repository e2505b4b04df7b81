"""Many adapters on one base in one process: a batch of contexts, each forecast with its own adapter, in one run.

An adapter that only changes biases is a shift of them, one of FourierFT a shift of a graph's coefficients, and the
shifted graph takes a shift for each row. So a central station needs one session and a few kilobytes for each bed, while
`Forecaster` needs a session for each adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_runtime.errors import BaseMismatchError, ForecastError, InputError, UnsupportedError
from device_runtime.files import about
from device_runtime.forecast.adapters import read_adapter
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import SHIFTED_FAMILIES
from device_runtime.forecast.forecaster import MAX_PREDICTION_LENGTH, Forecast
from device_runtime.forecast.known_answer import prove, unproven
from device_runtime.forecast.learning import finite_or_missing, open_learning
from device_runtime.forecast.merge import merge
from device_runtime.forecast.quantiles import ascending, at_levels, calibrate
from device_runtime.forecast.session import SessionSettings
from device_runtime.forecast.threads import settled
from device_runtime.format.adapter import Adapter, Calibration
from device_runtime.format.binding import Binding, Use, check
from device_runtime.format.delta import Delta, Dense, Fourier
from device_runtime.format.learning import Learning

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class HotAdapter:
    """An adapter that is proven and ready to be used in any run; some kilobytes."""

    digest: str  # SHA-256 of the blob, hex
    base: str  # base digest, hex
    version: int
    binding: Binding | None
    calibration: Calibration | None
    shift: FloatArray  # [n], read-only


class HotForecaster:
    """One base, opened once, forecasting with as many adapters as there are beds."""

    def __init__(self, bundle: Bundle, learning: Learning, settings: SessionSettings | None = None) -> None:
        self.bundle, self.learning = bundle, learning
        self._indices = learning.indices(bundle.manifest)
        sizes = learning.sizes(bundle.manifest)
        self._places = dict(zip(self._indices, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self.size = sum(sizes)  # n
        self._still = np.zeros(self.size, dtype=np.float32)
        settings = settled(bundle, settings or SessionSettings())
        self._model = SHIFTED_FAMILIES[bundle.manifest.family](bundle, {}, settings)

    @classmethod
    def open(cls, bundle: Path | str, *, settings: SessionSettings | None = None) -> HotForecaster:
        """Open a bundle's shifted graph, every file checked, and prove the base by its known answer.

        Raises what `device_runtime.forecast.learning.open_learning` raises, and `SelfTestError`.
        """
        hot = cls(*open_learning(Path(bundle)), settings)
        prove(hot.bundle.manifest, None, lambda context, size: hot._model.probe(context, hot._still, size))
        return hot

    def load(self, adapter: bytes | Path | str, *, use: Use | None = None) -> HotAdapter:
        """Decode a blob, given as bytes or as a path, and prove it by its known answer through the shifted graph.

        Signatures are not looked at, as in `Forecaster.open`. ``use`` says what will be forecast: an adapter for
        another signal, unit or interval is refused with `SignalMismatchError`. Raises `UnsupportedError` for an
        adapter that changes anything but what the graph shifts (biases, or coefficients at its entries), and what
        `Forecaster.open` raises.
        """
        with nullcontext() if isinstance(adapter, bytes) else about(adapter):
            decoded, digest = read_adapter(self.bundle.manifest, adapter)
            if decoded.binding is not None and use is not None:
                check(decoded.binding, use, ())
            shift = self._shift_of(decoded)
            if prove(self.bundle.manifest, decoded, lambda row, size: self._model.probe(row, shift, size)) is None:
                raise unproven()
        return HotAdapter(
            digest=digest,
            base=self.bundle.digest.hex(),
            version=decoded.version,
            binding=decoded.binding,
            calibration=decoded.calibration,
            shift=shift,
        )

    def forecast(
        self,
        context: ArrayLike,
        adapters: Sequence[HotAdapter | None],
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] | None = None,
    ) -> tuple[Forecast, ...]:
        """Forecast contexts ``[B, L]`` (NaN for missing), row by row with its own adapter or with the base alone.

        Returns a `Forecast` ``[H, Q]`` for each row. ``prediction_length`` defaults to what each row's adapter was
        judged with, else to the base's own; more than an adapter was judged with is refused with
        `SignalMismatchError`. Each row's context is cut to what its adapter was trained with. Raises `InputError`,
        `BaseMismatchError` for an adapter of another base, and `ForecastError`.
        """
        manifest = self.bundle.manifest
        contexts = finite_or_missing("context", context)
        if contexts.ndim != 2 or contexts.size == 0 or len(contexts) != len(adapters):
            raise InputError(f"context: want [{len(adapters)}, L], a row for each adapter, got {list(contexts.shape)}")
        steps = [self._steps(adapter, prediction_length) for adapter in adapters]
        contexts = contexts[:, -manifest.context_length :].copy()
        shifts = np.zeros((len(contexts), self.size), dtype=np.float32)
        for row, adapter in enumerate(adapters):
            self._prepare(row, adapter, contexts, shifts, steps[row])
        quantiles = ascending(self._model.predict(contexts, shifts, max(steps)))
        if not np.isfinite(quantiles).all():
            raise ForecastError("the shifted model's quantiles are not finite")
        levels = tuple(quantile_levels) if quantile_levels is not None else manifest.quantile_levels
        return tuple(
            self._forecast(quantiles[row, : steps[row]], adapter, levels) for row, adapter in enumerate(adapters)
        )

    def _steps(self, adapter: HotAdapter | None, wanted: int | None) -> int:
        """Return how many steps a row is forecast."""
        bound = adapter.binding if adapter else None
        own = self.bundle.manifest.prediction_length if bound is None else bound.prediction_length
        steps = own if wanted is None else wanted
        if not 1 <= steps <= MAX_PREDICTION_LENGTH:
            raise InputError(f"prediction_length {steps}: want 1 to {MAX_PREDICTION_LENGTH}")
        return steps

    def _prepare(
        self, row: int, adapter: HotAdapter | None, contexts: FloatArray, shifts: FloatArray, steps: int
    ) -> None:
        """Put a row's shift in its place and cut its context, in place, to what its adapter was trained with."""
        if adapter is not None:
            if adapter.base != self.bundle.digest.hex():
                raise BaseMismatchError(
                    f"row {row}: the adapter was loaded on base {adapter.base[:16]}…, "
                    f"this is {self.bundle.digest.hex()[:16]}…",
                    hint="load it with this forecaster",
                )
            shifts[row] = adapter.shift
            if adapter.binding is not None:
                length = adapter.binding.context_length
                contexts[row, : max(0, contexts.shape[1] - length)] = np.nan
                check(adapter.binding, replace(Use(), context_length=length, prediction_length=steps), ())
        if np.isnan(contexts[row]).all():
            raise InputError(f"context: row {row} has no observed value", hint="a forecast needs at least one")

    def _forecast(self, quantiles: FloatArray, adapter: HotAdapter | None, levels: tuple[float, ...]) -> Forecast:
        """Make a row's forecast of its ascending quantiles ``[H, Q]``."""
        rows = quantiles[None]
        if adapter is not None and adapter.calibration is not None:
            rows = calibrate(rows, adapter.calibration)
            if not np.isfinite(rows).all():
                raise ForecastError("the adapter's calibration makes quantiles that are not finite")
        return Forecast(
            quantiles=at_levels(rows, self.bundle.manifest.quantile_levels, levels)[0],
            quantile_levels=levels,
            base=self.bundle.digest.hex(),
            adapter=adapter.digest if adapter else None,
            adapter_version=adapter.version if adapter else None,
            binding=adapter.binding if adapter else None,
        )

    def _shift_of(self, adapter: Adapter) -> FloatArray:
        """Return an adapter as a shift ``[n]``. Raises `UnsupportedError` where it does more than the graph moves."""
        numbers = {index: self._numbers(index, delta) for index, delta in adapter.deltas.items()}
        merged = merge(self.bundle.manifest, self.bundle.tensor, adapter)
        shift = np.zeros(self.size, dtype=np.float32)
        for index, total in merged.items():
            part, start = numbers[index], self._places[index]
            moved = total.astype(np.float64) - self.bundle.tensor(index) if part is None else part
            shift[start : start + moved.size] = moved.reshape(-1)
        shift.flags.writeable = False
        return shift

    def _numbers(self, index: int, delta: Delta) -> NDArray[np.float64] | None:
        """Return a weight's coefficients as the graph takes them; None: a bias, moved by a number for each element."""
        tensors, fourier = self.bundle.manifest.tensors, self.learning.fourier
        name = tensors[index].name if index < len(tensors) else f"tensor {index}"
        if index not in self._places or not isinstance(delta, Dense if fourier is None else Fourier):
            raise self._other(name if isinstance(delta, Dense) else f"{name} by {type(delta).__name__}")
        if fourier is None:
            return None
        assert isinstance(delta, Fourier)
        numbers = fourier.numbers(delta, tensors[index].rows_columns)
        if numbers is None:
            which = "of its own" if delta.seed is None else f"of seed {delta.seed}"
            raise UnsupportedError(
                f"the adapter changes {name} at {delta.parameters} entries {which}; the graph has {fourier.count} "
                f"entries of seed {fourier.seed}",
                hint="open it with a Forecaster of its own, or train one with the graph's preset and seed",
            )
        return numbers

    def _other(self, what: str) -> UnsupportedError:
        """Make the error of an adapter that changes what does not differ from row to row."""
        moved, method = ("biases", "bitfit") if self.learning.fourier is None else ("coefficients of", "fourierft")
        return UnsupportedError(
            f"the adapter changes {what}; in a batch only {moved} may differ from row to row: "
            f"{', '.join(self.learning.names)}",
            hint=f"open it with a Forecaster of its own, or train one by method {method}",
        )
