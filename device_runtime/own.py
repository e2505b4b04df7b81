"""What a monitor learns itself, with its model: opened, made into blobs, and proven, here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt import within
from device_runtime.adapt.candidate import candidate_of, shift_of
from device_runtime.adapt.envelope import Envelope
from device_runtime.adapt.learnable import Learnable
from device_runtime.adapt.learner import Learner
from device_runtime.adapt.rules import AdaptRules
from device_runtime.errors import BaseMismatchError, SettingsError
from device_runtime.files import read_bounded
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.choose_answer import choose_known_answer
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.merge import merge
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import blob_size, decode, encode
from device_runtime.format.fourier_shift import FourierShift
from device_runtime.format.learning import LEARNING_FILE
from device_runtime.format.manifest import MAX_MANIFEST_SIZE
from device_runtime.update.adapt_use import binding_of, plausible_of, typical_of
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.workshop import Made

FloatArray = NDArray[np.float32]
OpenLearnable = Callable[[bytes | None], Learnable]


class OwnAdapters:
    """`device_runtime.update.workshop.Workshop` on a monitor's bundle."""

    def __init__(
        self,
        config: DeviceConfig,
        bundle: Bundle,
        open_learnable: OpenLearnable,
        *,
        settings: SessionSettings | None = None,
        read_fourier: Callable[[], FourierShift | None] = lambda: None,
    ) -> None:
        """``open_learnable`` opens the bundle's learning graphs on a blob, None: on the base alone.

        ``read_fourier`` says which coefficients they move, None: they move tensors by a number for each element.
        """
        self._config, self._bundle, self._settings = config, bundle, settings
        self._open_learnable, self._read_fourier = open_learnable, read_fourier

    @property
    def base(self) -> str:
        """The base's digest, hex."""
        return self._bundle.digest.hex()

    @cached_property
    def learning(self) -> str:
        """SHA-256 of the bundle's learning.json, hex. Raises `StorageError` where there is none."""
        return hashlib.sha256(read_bounded(self._config.bundle / LEARNING_FILE, MAX_MANIFEST_SIZE)).hexdigest()

    @cached_property
    def _fourier(self) -> FourierShift | None:
        return self._read_fourier()

    def learner(self, parent: bytes | None, rules: AdaptRules, tensors: tuple[str, ...] | None) -> Learner:
        """Open what learns by ``rules`` on the signed file ``parent``, None: on the base alone.

        ``tensors`` are those that may move, None: all that the learning graphs move.
        """
        under = _decoded(parent)
        bound = binding_of(self._config, self._bundle.manifest, under)
        return Learner(
            rules,
            Narrowed(self._open_learnable(_blob(parent)), tensors),
            self._bundle.manifest.quantile_levels,
            interval_ms=bound.interval_us // 1_000,
            context_length=bound.context_length,
            steps=bound.prediction_length,
            plausible=plausible_of(bound),
        )

    def make(self, parent: bytes | None, shift: FloatArray, *, generation: int, envelope: Envelope) -> Made:
        """Make a blob of a ``shift`` ``[n]`` of the envelope's tensors on ``parent``, and prove it on this monitor.

        Raises `SelfTestError` where no forecast shows the shift, and `SettingsError` where the envelope forbids it.
        """
        self._check_learning(envelope)
        manifest, blob, under = self._bundle.manifest, _blob(parent), _decoded(parent)
        tensors = within.tensors_of(envelope, manifest)
        bound = binding_of(self._config, self._bundle.manifest, under)
        adapter = candidate_of(
            shift,
            tensors=tensors,
            parent=under,
            parent_digest=None if blob is None else hashlib.sha256(blob).hexdigest(),
            base_digest=self._bundle.digest,
            version=0 if under is None else under.version,
            binding=bound,
            generation=generation,
            metadata={"envelope": envelope.sequence},
            fourier=self._fourier,
        )
        self._check_within(adapter, blob, envelope)
        with self._bundle.in_memory():
            merged = merge(manifest, self._bundle.tensor, adapter)
            beside: Mapping[int, FloatArray] = {}
            if under is not None:
                beside = merge(manifest, self._bundle.tensor, under)
        level, spread = typical_of(self._config, self._bundle.manifest, under)
        answer, _ = choose_known_answer(self._bundle, merged, level=level, spread=spread, beside=beside)
        own = encode(replace(adapter, known_answer=answer))
        self.open_own(own, parent, envelope)
        return Made(
            blob=own,
            version=adapter.version,
            shift=shift_of(adapter, under, tensors, self._fourier),
            steps=bound.prediction_length,
        )

    def shift(self, own: bytes, parent: bytes | None, envelope: Envelope) -> FloatArray:
        """Return the shift ``[n]`` that a blob which was learnt here carries."""
        tensors = within.tensors_of(envelope, self._bundle.manifest)
        return shift_of(decode(own), _decoded(parent), tensors, self._fourier)

    def open_own(self, own: bytes, parent: bytes | None, envelope: Envelope) -> Forecaster:
        """Check that a blob that was learnt here keeps to the envelope, and open it, known answer included."""
        self._check_learning(envelope)
        adapter = decode(own)
        self._check_within(adapter, _blob(parent), envelope)
        forecaster = Forecaster.open(
            self._bundle,
            own,
            settings=self._settings,
            use=self._config.use,
            accept=self._config.accept_differences,
        )
        forecaster.generation = int(adapter.metadata["generation"])
        return forecaster

    def _cap(self, envelope: Envelope) -> float:
        """How far one tensor may move: the tighter of envelope and settings."""
        return envelope.bounded(self._config.adapt).cap_tensor

    def _check_within(self, adapter: Adapter, parent: bytes | None, envelope: Envelope) -> None:
        """Refuse an own adapter that goes further than envelope or settings allow."""
        within.check(adapter, parent, envelope, self._bundle.manifest, cap=self._cap(envelope), fourier=self._fourier)

    def _check_learning(self, envelope: Envelope) -> None:
        """Refuse an envelope of other learning graphs than the bundle's. Raises `BaseMismatchError`."""
        if envelope.learning != self.learning:
            raise BaseMismatchError(
                f"the envelope is for learning graphs {envelope.learning[:16]}, the bundle has {self.learning[:16]}"
            )


class Narrowed:
    """A `Learnable` of the tensors that may move, some of those that another one moves."""

    def __init__(self, whole: Learnable, tensors: tuple[str, ...] | None) -> None:
        """Raises `SettingsError` where the learning graphs do not move one of ``tensors``."""
        wanted = set(whole.names if tensors is None else tensors)
        if missing := sorted(wanted - set(whole.names)):
            raise SettingsError(f"the envelope names {missing[0][:80]!r}, which the learning graphs do not move")
        self._whole = whole
        kept = [name in wanted for name in whole.names]
        self._moved = np.repeat(kept, whole.sizes)  # [n of the whole]
        self.names = tuple(name for name in whole.names if name in wanted)
        self.sizes = tuple(size for size, one in zip(whole.sizes, kept, strict=True) if one)
        self.context_length = whole.context_length
        self.prediction_length = whole.prediction_length

    def gradients(self, context: FloatArray, target: FloatArray, shift: FloatArray) -> tuple[float, FloatArray]:
        """Return the loss of a batch and its gradient, as `Learnable.gradients`."""
        loss, gradient = self._whole.gradients(context, target, self._widened(shift))
        return loss, gradient[self._moved]

    def forecast(self, context: FloatArray, steps: int, shift: FloatArray) -> FloatArray:
        """Forecast as `Learnable.forecast`."""
        return self._whole.forecast(context, steps, self._widened(shift))

    def _widened(self, shift: FloatArray) -> FloatArray:
        """Return a shift ``[n]``, or ``[B, n]``, with zeros for what may not move."""
        if self._moved.all():
            return shift
        out = np.zeros((*shift.shape[:-1], len(self._moved)), dtype=np.float32)
        out[..., self._moved] = shift
        return out


def _blob(signed: bytes | None) -> bytes | None:
    """Return the blob of a signed file."""
    return None if signed is None else signed[: blob_size(signed)]


def _decoded(signed: bytes | None) -> Adapter | None:
    blob = _blob(signed)
    return None if blob is None else decode(blob)
