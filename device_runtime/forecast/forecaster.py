"""`Forecaster`: a base, optionally with an adapter, checked by its known-answer test; forecasts contexts."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_runtime.errors import ForecastError, InputError
from device_runtime.files import about, read_bounded
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.model import Grouper, Model, Sampler
from device_runtime.forecast.groups import arrange
from device_runtime.forecast.known_answer import check_seen, prove, unproven
from device_runtime.forecast.merge import check_base, merge
from device_runtime.forecast.placed import placed
from device_runtime.forecast.quantiles import ascending, at_levels, calibrate, sample_quantiles
from device_runtime.forecast.session import SessionSettings
from device_runtime.forecast.threads import settled
from device_runtime.format.adapter import Adapter
from device_runtime.format.binding import Binding, Use, check, check_names
from device_runtime.format.blob import blob_size, decode, read_header
from device_runtime.format.envelope import MAX_SIGNATURES_SIZE
from device_runtime.format.layout import MAX_BLOB_SIZE
from device_runtime.format.proofs import Proof

FloatArray = NDArray[np.float32]

MAX_PREDICTION_LENGTH = 1_024  # steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """Quantiles of the future, and which base and adapter made them."""

    quantiles: FloatArray  # [H, Q], or [B, H, Q] for a batch
    quantile_levels: tuple[float, ...]  # Q
    base: str  # base digest, hex
    adapter: str | None  # SHA-256 of the adapter blob, hex; None: the frozen base alone
    adapter_version: int | None
    binding: Binding | None  # what the adapter is for; None: the base alone, or an unbound adapter
    accepted_differences: tuple[str, ...] = ()  # differences from its binding that a person accepted by name
    generation: int | None = None  # of an adapter made on this monitor; None: the publisher's adapter, or the base
    tracked: int | None = None  # number of this stay's forecasts that tracking has used; None: not tracked
    width_factor: float | None = None  # of tracking

    @property
    def unbound(self) -> bool:
        """Whether it was made with an adapter that does not state what it is for (a blob of format 1)."""
        return self.adapter is not None and self.binding is None

    @property
    def median(self) -> FloatArray:
        """The 0.5 quantile, ``[H]`` or ``[B, H]``. Raises `InputError` if it was not requested."""
        if 0.5 not in self.quantile_levels:
            raise InputError("the median was not among the requested quantile_levels")
        return self.quantiles[..., self.quantile_levels.index(0.5)]


class Forecaster:
    """Forecasts with exactly one base and at most one adapter; immutable, so a swap is a new object."""

    def __init__(
        self,
        bundle: Bundle,
        model: Model,
        adapter: Adapter | None,
        adapter_digest: str | None,
        use: Use | None = None,
        accepted: Collection[str] = (),
        proof: Proof | None = None,
    ) -> None:
        self.bundle = bundle
        self.proof = proof  # that the base may run on the session's provider; None: it runs on the processor
        self.adapter = adapter
        self.adapter_digest = adapter_digest
        self.use = use or Use()  # what is forecast, unless a forecast says otherwise
        self.accepted = frozenset(accepted)  # differences from the adapter's binding, by name
        self.generation: int | None = None  # set by the code that opens an adapter made on the monitor
        self._model = model

    @classmethod
    def open(
        cls,
        bundle: Bundle | Path | str,
        adapter: bytes | Path | str | None = None,
        *,
        settings: SessionSettings | None = None,
        use: Use | None = None,
        accept: Collection[str] = (),
        allow_unproven: bool = False,
    ) -> Forecaster:
        """Open a bundle, merge an adapter and check the merge by its known-answer test.

        ``adapter`` is a blob's bytes or path; signatures after the blob are not checked here (that is done by
        `device_runtime.format.envelope` when an adapter is installed and started). ``use`` states what will be
        forecast: an adapter for another signal, unit or interval is refused with `SignalMismatchError`, unless
        ``accept`` names that difference (`device_runtime.format.binding.DIFFERENCES`); then every forecast says so.
        What ``use`` leaves out is not checked. A blob without a known-answer test is refused unless
        ``allow_unproven``, which is for making one. Raises every `DeviceRuntimeError` but those of
        signatures and storage state; on an error nothing is left open.
        """
        check_names(accept)
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle)
        settings = settled(bundle, settings or SessionSettings())
        bundle, family, proof = placed(bundle, settings)
        if adapter is None:
            base = cls(bundle, family(bundle, {}, settings), None, None, use, accept, proof)
            base.self_test()
            return base
        if not isinstance(adapter, bytes):
            data = read_bounded(Path(adapter), MAX_BLOB_SIZE + MAX_SIGNATURES_SIZE)
            with about(adapter):
                return cls.open(bundle, data, settings=settings, use=use, accept=accept, allow_unproven=allow_unproven)
        blob = adapter[: blob_size(adapter)]
        check_base(bundle.manifest, read_header(blob)[0])  # first, since an adapter for another base is refused anyway
        decoded = decode(blob)
        if decoded.binding is not None and use is not None:
            check(decoded.binding, use, accept)
        with bundle.in_memory():  # what is merged into is what the sessions are opened with
            merged = merge(bundle.manifest, bundle.tensor, decoded)
            model = family(bundle, merged, settings)
        forecaster = cls(bundle, model, decoded, hashlib.sha256(blob).hexdigest(), use, accept, proof)
        if decoded.known_answer is not None:
            forecaster.self_test()
            if forecaster.beside:
                alone = family(bundle, {}, settings)
                check_seen(bundle.manifest, decoded, alone.probe, beside=forecaster.beside)
        elif not allow_unproven:
            raise unproven()
        return forecaster

    def self_test(self) -> float | None:
        """Run the known-answer test, the adapter's or that of the base alone; return the largest absolute difference.

        It is in the target's unit. Raises `SelfTestError` if it exceeds the tolerance, or if the tolerance is so wide
        that passing would prove nothing (FORMAT.md §7). Returns None if there is no test.
        """
        return prove(self.bundle.manifest, self.adapter, self._model.probe, beside=self.beside)

    @property
    def beside(self) -> float:
        """What the provider may add to a known answer's tolerance, in standard deviations of the context."""
        return 0.0 if self.proof is None else self.proof.tolerance_ppm / 1e6

    def forecast(
        self,
        context: ArrayLike,
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        *,
        num_samples: int | None = None,
        seed: int = 0,
        groups: Sequence[int] | ArrayLike | None = None,
        past_covariates: Mapping[str, ArrayLike] | None = None,
        future_covariates: Mapping[str, ArrayLike] | None = None,
        use: Use | None = None,
    ) -> Forecast:
        """Forecast one context ``[L]`` or a batch ``[B, L]``, NaN for missing values, latest value last.

        ``prediction_length`` defaults to the length that the adapter was evaluated with, else the base's own; a longer
        one than the adapter's is refused with `SignalMismatchError` unless that difference is accepted.
        ``quantile_levels`` default to the levels that the base was trained for. A context is cut at the left to the
        adapter's training length, else to the base's longest. ``use`` states what this context is, instead of the
        ``use`` given to `open`. ``num_samples`` and ``seed`` are for a base that samples (Chronos-T5): the number of
        paths from which quantiles are computed, and their seed; equal arguments give equal forecasts.

        The rest is for a base that mixes series (Chronos-2), in chronos-forecasting's terms. ``groups`` ``[B]``: series
        with the same number are forecast jointly, like its multivariate targets; without it each alone.
        ``past_covariates``: name → values beside the target, ``[L]``, or ``[N, L]`` for N groups in the order of their
        first series (without ``groups`` one for each series). ``future_covariates``: those of them that are known
        ahead, ``[H]`` or ``[N, H]``. Only targets are returned.

        Raises `InputError` for a context that cannot be forecast, or for samples, groups or covariates with a base
        that does not support them, and `ForecastError` if the model's output is not finite.
        """
        manifest = self.bundle.manifest
        steps = self._steps(prediction_length)
        batch, single = _as_batch(context)
        batch = self._cut(batch)
        differences = self.check(_of_lengths(use or self.use, batch, steps))
        levels = tuple(quantile_levels) if quantile_levels is not None else manifest.quantile_levels
        calibration = self.adapter.calibration if self.adapter is not None else None
        # Any level can be read off samples; a calibration knows the manifest's.
        own = levels if isinstance(self._model, Sampler) and calibration is None else manifest.quantile_levels
        grouped = groups is not None or bool(past_covariates) or bool(future_covariates)
        self._check_family(grouped=grouped, sampled=num_samples is not None or bool(seed))
        if isinstance(self._model, Sampler):
            samples = self._model.sample(batch, steps, _samples(self._model, num_samples), seed)
            quantiles = sample_quantiles(samples, own)
        elif grouped and isinstance(self._model, Grouper):
            rows = arrange(batch, steps, groups, past_covariates, future_covariates)
            quantiles = ascending(self._model.predict_groups(rows, steps)[: rows.targets])
        else:
            quantiles = ascending(self._model.predict(batch, steps))
        if not np.isfinite(quantiles).all():
            raise ForecastError("the model's quantiles are not finite")
        if calibration is not None:
            quantiles = calibrate(quantiles, calibration)
            if not np.isfinite(quantiles).all():
                raise ForecastError("the adapter's calibration makes quantiles that are not finite")
        if own is not levels:
            quantiles = at_levels(quantiles, own, levels)
        return Forecast(
            quantiles=quantiles[0] if single else quantiles,
            quantile_levels=levels,
            base=self.bundle.digest.hex(),
            adapter=self.adapter_digest,
            adapter_version=self.adapter.version if self.adapter else None,
            binding=self.adapter.binding if self.adapter else None,
            accepted_differences=differences,
            generation=self.generation,
        )

    def _check_family(self, *, grouped: bool, sampled: bool) -> None:
        """Refuse groups and samples of a base that has none. Raises `InputError`."""
        family = self.bundle.manifest.family
        if grouped and not isinstance(self._model, Grouper):
            raise InputError(
                f"groups and covariates: {family} forecasts each series alone",
                hint="leave them out, or use a bundle of a Chronos-2",
            )
        if sampled and not isinstance(self._model, Sampler):
            raise InputError(f"num_samples and seed: {family} forecasts quantiles, it does not sample")

    def sample(
        self, context: ArrayLike, prediction_length: int | None = None, num_samples: int | None = None, seed: int = 0
    ) -> FloatArray:
        """Draw sample paths ``[S, H]``, or ``[B, S, H]`` for a batch, from a base that samples (Chronos-T5).

        The arguments are those of `forecast`; paths are not calibrated, for a calibration moves quantiles. Raises
        `InputError` for a base that does not sample.
        """
        if not isinstance(self._model, Sampler):
            raise InputError(f"{self.bundle.manifest.family} forecasts quantiles, it does not sample")
        batch, single = _as_batch(context)
        steps = self._steps(prediction_length)
        batch = self._cut(batch)
        self.check(_of_lengths(self.use, batch, steps))
        samples = self._model.sample(batch, steps, _samples(self._model, num_samples), seed)
        if not np.isfinite(samples).all():
            raise ForecastError("the model's samples are not finite")
        return samples[0] if single else samples

    @property
    def binding(self) -> Binding | None:
        """What the adapter is for; None: the base alone, or an unbound adapter."""
        return self.adapter.binding if self.adapter else None

    def check(self, use: Use) -> tuple[str, ...]:
        """Refuse a use that the adapter is not for; return the differences that a person accepted by name.

        Raises `SignalMismatchError`.
        """
        return () if self.binding is None else check(self.binding, use, self.accepted)

    def _steps(self, prediction_length: int | None) -> int:
        """Return the number of steps to forecast: the adapter's own unless one is given, else the base's."""
        bound = self.binding
        own = self.bundle.manifest.prediction_length if bound is None else bound.prediction_length
        steps = own if prediction_length is None else prediction_length
        if not 1 <= steps <= MAX_PREDICTION_LENGTH:
            raise InputError(f"prediction_length {steps}: want 1 to {MAX_PREDICTION_LENGTH}")
        return steps

    def _cut(self, batch: FloatArray) -> FloatArray:
        """Cut contexts ``[B, L]`` to what the adapter was trained with, unless a person accepted longer ones."""
        if self.binding is None or "context_length" in self.accepted:
            return batch
        cut = batch[:, -self.binding.context_length :]
        _refuse_empty(cut)
        return cut


def _of_lengths(use: Use, batch: FloatArray, steps: int) -> Use:
    """Add the lengths of a forecast of contexts ``[B, L]`` to its use."""
    return replace(use, context_length=batch.shape[1], prediction_length=steps)


def _samples(model: Sampler, wanted: int | None) -> int:
    """Return how many paths to draw, the base's own number unless one is given."""
    return model.num_samples if wanted is None else wanted


def _as_batch(context: ArrayLike) -> tuple[FloatArray, bool]:
    """Check a context and return it as float32 ``[B, L]``, and whether it was a single one."""
    try:
        array = np.asarray(context, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"context: want numbers of shape [L] or [B, L]: {error}") from error
    if array.ndim not in (1, 2) or array.size == 0:
        raise InputError(f"context: want shape [L] or [B, L] with at least one value, got {list(array.shape)}")
    batch = array[None, :] if array.ndim == 1 else array
    if np.isinf(batch).any():
        raise InputError("context: has infinite values; missing values are NaN")
    _refuse_empty(batch)
    return batch, array.ndim == 1


def _refuse_empty(batch: FloatArray) -> None:
    """Raise `InputError` for a context of ``batch`` ``[B, L]`` without any observed value."""
    empty = np.flatnonzero(np.isnan(batch).all(axis=1))
    if len(empty):
        raise InputError(
            f"context: row {int(empty[0])} has no observed value in its last {batch.shape[1]} steps",
            hint="a forecast needs at least one",
        )
