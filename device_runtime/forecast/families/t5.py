"""Chronos-T5 on the device: the encoder runs once for a series, then the step graph once for a step of all paths."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError, InputError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.sampling import MAX_SAMPLES, uniforms
from device_runtime.forecast.families.tokenizer import MAX_TOKENS, Tokenizer
from device_runtime.forecast.quantiles import sample_quantiles
from device_runtime.forecast.session import BoundRun, Session, SessionSettings, open_session, run_all
from device_runtime.format.manifest import INTEGER_PRECISIONS
from device_runtime.format.parameters import number, whole

FloatArray = NDArray[np.float32]

PATHS_AT_ONCE = 160  # bounds the caches: a Chronos-T5 tiny keeps 0.5 MB for a path of 64 steps
STAGE = 16  # steps that caches grow by: a step attends to all of them, the empty ones too
INT8_PATHS = 10  # drawn together in int8, of one series: their activations share a scale (FORMAT.md §7)
MAX_SIDE = 4_096  # layers, heads, width of a head
WITNESS_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is drawn, as the base's configuration says."""

    num_samples: int
    temperature: float
    top_k: int
    top_p: float

    @classmethod
    def parse(cls, parameters: Mapping[str, Any]) -> Sampling:
        """Read a manifest's ``parameters``. Raises `FormatError` where one is missing or out of range."""
        made = cls(
            num_samples=whole(parameters, "num_samples", least=1, most=MAX_SAMPLES),
            temperature=number(parameters, "temperature"),
            top_k=whole(parameters, "top_k", least=1, most=MAX_TOKENS),
            top_p=number(parameters, "top_p"),
        )
        if not (made.temperature > 0 and 0 < made.top_p <= 1):
            raise FormatError("bundle.json: parameters: want temperature above 0 and top_p above 0, at most 1")
        return made


class T5Model:
    """A merged Chronos-T5, ready to forecast."""

    def __init__(self, bundle: Bundle, merged: Mapping[int, FloatArray], settings: SessionSettings) -> None:
        manifest = bundle.manifest
        self.tokenizer = Tokenizer.parse(manifest.parameters)
        self.values = self.tokenizer.values
        self.sampling = Sampling.parse(manifest.parameters)
        self.num_samples = self.sampling.num_samples
        self.blocks, self.heads, self.width = (
            whole(manifest.parameters, name, least=1, most=MAX_SIDE) for name in ("num_layers", "num_heads", "d_kv")
        )
        self.start_token = whole(manifest.parameters, "start_token_id", least=0, most=self.tokenizer.n_tokens - 1)
        self.context_length = manifest.context_length
        self.prediction_length = manifest.prediction_length
        self.levels = manifest.quantile_levels
        self.int8 = manifest.precision in INTEGER_PRECISIONS
        self.threads = settings.threads
        # Paths are parallel, not the products of a step: at 25 a step threads would mostly wait for each other.
        self.sessions: dict[str, Session] = {
            "encoder": open_session(bundle, "encoder", merged, settings),
            "step": open_session(bundle, "step", merged, replace(settings, threads=1)),
        }

    def predict(self, context: FloatArray, prediction_length: int) -> FloatArray:
        """Forecast ``context`` ``[B, L]``: quantiles ``[B, H, Q]`` of the base's number of samples, seed 0."""
        samples = self.sample(context, prediction_length, self.num_samples, 0)
        return sample_quantiles(samples, self.levels)

    def sample(self, context: FloatArray, prediction_length: int, num_samples: int, seed: int) -> FloatArray:
        """Draw paths ``[B, S, H]`` that continue ``context`` ``[B, L]`` (NaN for missing).

        Beyond the base's own prediction length the medians so far are appended to the context, as in
        ``ChronosPipeline.predict`` (chronos-forecasting 2.3). Raises `InputError` for a number of samples or a seed
        out of range.
        """
        if not 1 <= num_samples <= MAX_SAMPLES:
            raise InputError(f"num_samples {num_samples}: want 1 to {MAX_SAMPLES}")
        if not 0 <= seed < 2**32:
            raise InputError(f"seed {seed}: want 0 to {2**32 - 1}")
        at_once = 1 if self.int8 else max(1, PATHS_AT_ONCE // num_samples)
        parts = [
            self._continue(context[start : start + at_once], prediction_length, num_samples, seed)
            for start in range(0, len(context), at_once)
        ]
        return np.concatenate(parts)

    def witness(self, context: FloatArray) -> FloatArray:
        """Return what the weights decide, without chance, in the context's unit: ``[B, WITNESS_STEPS, 1]``.

        The mean of the next token's distribution at each step, the decoder being fed the context's own tokens.
        """
        return self._means(context, min(WITNESS_STEPS, self.prediction_length))

    def probe(self, context: FloatArray, size: int) -> FloatArray:
        """Return the known-answer probe of ``context`` ``[L]``: the means of ``size`` steps (FORMAT.md §7)."""
        if size > self.prediction_length:
            raise FormatError(f"known-answer test: {size} parameters, this base has {self.prediction_length} steps")
        return self._means(context[None, :], size)[0, :, 0]

    def logits(self, context: FloatArray, steps: int) -> FloatArray:
        """Return the logits ``[B, steps, V]`` of tokens 1 to ``steps``, fed the context's own tokens in turn."""
        tokens, mask, _ = self.tokenizer.encode(context[:, -self.context_length :])
        own = tokens[:, : tokens.shape[1] - int(self.tokenizer.use_eos_token)]
        decoding = self._start(self._encode(tokens, mask), mask, 1, steps, with_logits=True)
        out = []
        for step in range(steps):
            decoding.token[:] = self.start_token if step == 0 else own[:, (step - 1) % own.shape[1]]
            decoding.step[0] = step
            decoding.run()
            out.append(decoding.logits.copy())
        return np.stack(out, axis=1)

    def _means(self, context: FloatArray, steps: int) -> FloatArray:
        """Return the means of the next token's distribution, in the context's unit: ``[B, steps, 1]``."""
        logits = self.logits(context, steps).astype(np.float64)
        p = np.exp(logits - logits.max(axis=-1, keepdims=True))
        mean: NDArray[np.float64] = (p @ self.values.astype(np.float64)) / p.sum(axis=-1)  # [B, steps]
        _, _, scale = self.tokenizer.encode(context[:, -self.context_length :])
        return np.asarray((mean * scale[:, None])[..., None], dtype=np.float32)

    def _continue(self, context: FloatArray, prediction_length: int, num_samples: int, seed: int) -> FloatArray:
        """Draw the paths of a few series."""
        blocks: list[FloatArray] = []
        done = 0
        while done < prediction_length:
            steps = min(prediction_length - done, self.prediction_length)
            tokens, mask, scale = self.tokenizer.encode(context[:, -self.context_length :])
            drawn = self._draw(tokens, mask, uniforms(seed, num_samples, done, steps))  # [B, S, steps]
            block = self.values[drawn] * scale[:, None, None]
            blocks.append(block)
            done += steps
            # torch's median of an even number of values is the lower of the two in the middle.
            middle = np.sort(block, axis=1)[:, (num_samples - 1) // 2]
            context = np.concatenate([context, middle], axis=1)
        return np.concatenate(blocks, axis=-1)

    def _draw(self, tokens: NDArray[np.int64], mask: FloatArray, noise: FloatArray) -> NDArray[np.int64]:
        """Draw tokens ``[B, S, steps]`` by ``noise`` ``[steps, S]``: each thread so many paths that caches stay small.

        A path is the same whatever it is drawn beside; in int8, beside the others of its `INT8_PATHS`.
        """
        cross = self._encode(tokens, mask)
        samples = noise.shape[1]
        workers = min(self.threads, samples)
        at_once = min(-(-samples // workers), max(1, PATHS_AT_ONCE // (workers * len(tokens))))
        if self.int8:
            at_once = INT8_PATHS
        some = [noise[:, first : first + at_once] for first in range(0, samples, at_once)]
        if workers == 1 or len(some) == 1:
            return np.concatenate([self._draw_some(cross, mask, part) for part in some], axis=1)
        with ThreadPoolExecutor(workers) as pool:  # ONNX Runtime lets go of Python's lock while it runs
            return np.concatenate(list(pool.map(lambda part: self._draw_some(cross, mask, part), some)), axis=1)

    def _draw_some(self, cross: Mapping[str, FloatArray], mask: FloatArray, noise: FloatArray) -> NDArray[np.int64]:
        """Draw the tokens of a few samples, all at once."""
        batch, (steps, samples) = len(mask), noise.shape
        decoding = self._start(cross, mask, samples, min(steps, STAGE))
        drawn = np.empty((steps, batch * samples), dtype=np.int64)
        for step in range(steps):
            if step > 0 and step % STAGE == 0:
                decoding = self._start(cross, mask, samples, min(steps, step + STAGE), earlier=decoding)
            decoding.step[0] = step
            decoding.noise[:] = np.tile(noise[step], batch)
            decoding.run()
            drawn[step] = decoding.token
        return drawn.reshape(steps, batch, samples).transpose(1, 2, 0)

    def _encode(self, tokens: NDArray[np.int64], mask: FloatArray) -> dict[str, FloatArray]:
        """Run the encoder: the cross-attention keys and values of every block, by name."""
        return run_all(self.sessions["encoder"], {"tokens": tokens, "observed": mask})

    def _start(
        self,
        cross: Mapping[str, FloatArray],
        mask: FloatArray,
        samples: int,
        steps: int,
        *,
        with_logits: bool = False,
        earlier: Decoding | None = None,
    ) -> Decoding:
        """Bind the step graph to fixed memory: caches of ``steps`` steps are written in place.

        It goes on from ``earlier``, whose caches were shorter.
        """
        rows = len(mask) * samples
        token, step = np.full(rows, self.start_token, dtype=np.int64), np.zeros(1, dtype=np.int64)
        if earlier is not None:
            token[:] = earlier.token
        noise, logits = np.zeros(rows, dtype=np.float32), np.empty((rows, len(self.values)), dtype=np.float32)
        inputs: dict[str, NDArray[np.generic]] = {
            "token": token,
            "step": step,
            "noise": noise,
            "observed": mask,
            "temperature": np.array([self.sampling.temperature], dtype=np.float32),
            "top_k": np.array([min(self.sampling.top_k, len(self.values))], dtype=np.int64),
            "top_p": np.array([self.sampling.top_p], dtype=np.float32),
        }
        outputs: dict[str, NDArray[np.generic]] = {"next_token": token}
        if with_logits:
            outputs = {"logits": logits}  # and the caches, but no token is drawn
        caches: dict[str, FloatArray] = {}
        for block in range(self.blocks):
            for name in (f"cross_keys_{block}", f"cross_values_{block}"):
                inputs[name] = cross[name]
            for name in (f"own_keys_{block}", f"own_values_{block}"):
                cache = np.zeros((rows * self.heads, steps, self.width), dtype=np.float32)
                if earlier is not None:
                    cache[:, : earlier.caches[name].shape[1]] = earlier.caches[name]
                inputs[name] = outputs[f"{name}_next"] = caches[name] = cache
        run = BoundRun(self.sessions["step"], inputs, outputs)
        return Decoding(token=token, step=step, noise=noise, logits=logits, caches=caches, run=run)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The step graph bound to memory: set ``step`` and ``noise``, run, and read ``token`` (or ``logits``)."""

    token: NDArray[np.int64]  # [N], the token before a run and the one after it
    step: NDArray[np.int64]  # [1]
    noise: FloatArray  # [N], uniform in [0, 1)
    logits: FloatArray  # [N, V], where they were asked for
    caches: Mapping[str, FloatArray]  # each [N * heads, steps, width]
    run: BoundRun
