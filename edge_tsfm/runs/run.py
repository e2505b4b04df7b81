"""A run folder: its configuration, its results, and everything to evaluate or export it later."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.quantiles import ascending
from device_runtime.format.binding import Binding, check
from device_runtime.format.delta import Delta, Dtype
from device_runtime.series.duration import parse_duration
from edge_tsfm.data import Dataset, Part, Split, SplitBy, Windows, read_dataset
from edge_tsfm.data.sources import Source
from edge_tsfm.data.use import use_of
from edge_tsfm.errors import DataError, GateRefusedError, ModelError, TrainError
from edge_tsfm.methods import Method, attach, find_method
from edge_tsfm.models import FAMILIES, Base, load_base
from edge_tsfm.models.biases import put_biases
from edge_tsfm.models.family import device_of
from edge_tsfm.report.verdict import RunVerdict
from edge_tsfm.runs.record import RUN_FILE, read_record
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.entries import ENTRIES_FILE, read_entries
from edge_tsfm.training.stored import read_parameters
from export.manifest import exported_weights
from export.threads import threads_for

PARAMETERS_FILE = "tuned.safetensors"
CHECKPOINT_FILE = "checkpoint.pt"
PEFT_FOLDER = "peft"
FORECAST_BATCH = 1_024


def binding_of(signal: str, interval_us: int, config: TrainConfig) -> Binding:
    """Describe what a run of this configuration on this signal is for.

    Raises `TrainError` for a signal whose name no blob can hold.
    """
    try:
        return Binding.of(
            signal,
            interval_us=interval_us,
            context_length=config.context_length,
            prediction_length=config.prediction_length,
        )
    except ValueError as error:
        raise TrainError(
            f"a blob could not state what this run is for: {error}",
            hint="rename the column, and give the new name as --target",
        ) from error


def read_run_data(config: TrainConfig, data: Source | None = None) -> Dataset:
    """Read a run's data with the options the run recorded; ``data`` is another file of the same layout."""
    return read_dataset(config.data if data is None else data, config.reading, target=config.target)


def split_of_run(config: TrainConfig, dataset: Dataset) -> Split:
    """Return how a run of this configuration splits ``dataset``, its own data."""
    by = cast(SplitBy, config.split_by)  # its configuration checked
    return Split.of(dataset.series, by, config.block_length or config.context_length)


def cut(dataset: Dataset, split: Split, part: Part, config: TrainConfig, stride: int | None = None) -> Windows:
    """Cut one part's windows of the run's lengths.

    Without a ``stride`` their targets do not overlap, but for those that stop training and the gate's
    (`TrainConfig.validation_step`).
    """
    own = config.validation_step if part in ("stopping", "gate") else config.prediction_length
    return split.windows(
        split.series(dataset.series, part),
        part,
        context_length=config.context_length,
        prediction_length=config.prediction_length,
        stride=stride or own,
        min_observed=config.min_observed,
    )


def forecast(
    model: nn.Module, family: str, context: NDArray[np.float32], prediction_length: int
) -> NDArray[np.float32]:
    """Forecast contexts ``[N, L]`` with torch, in batches: quantiles ``[N, H, Q]``; a small model on one thread.

    Levels that the model crosses are put in ascending order, as the device's runtime does.
    """
    parts = []
    with torch.no_grad(), threads_for(model):
        for start in range(0, len(context), FORECAST_BATCH):
            batch = torch.from_numpy(context[start : start + FORECAST_BATCH]).to(device_of(model))
            parts.append(FAMILIES[family].quantiles(model, batch, prediction_length).float().cpu().numpy())
    return ascending(np.concatenate(parts))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 (hex) of a run's files that decide its forecasts, by name: what its record pins."""
    present = [name for name in (PARAMETERS_FILE, ENTRIES_FILE) if (folder / name).exists()]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in present}


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    path: Path
    record: Mapping[str, Any]

    @property
    def config(self) -> TrainConfig:
        """What was asked."""
        return TrainConfig.from_dict(self.record["config"], f"{self.path / RUN_FILE}: [config]")

    @property
    def target(self) -> str:
        """The signal."""
        return str(self.record["channel"])

    @property
    def method(self) -> str:
        """The method's name."""
        return self.config.method

    @property
    def base(self) -> Mapping[str, str]:
        """Name, source, family and digest of the base."""
        return dict(self.record["base"])

    @property
    def gate(self) -> Mapping[str, Any]:
        """The gate's verdict, and ``forced``."""
        return dict(self.record["gate"])

    @property
    def binding(self) -> Binding:
        """What the run trained for: its signal, unit, interval and lengths, as an exported blob states them.

        Raises `TrainError` for a signal whose name no blob can hold.
        """
        return binding_of(self.target, self._interval_us(), self.config)

    def _interval_us(self) -> int:
        """Return the time between steps in microseconds; 0 where the data count steps of unknown length."""
        data = self.record["data"]
        if "interval_us" in data:
            return int(data["interval_us"])
        said = str(data["report"]["interval"])  # of a run by an earlier release
        return 0 if said.endswith("steps") else parse_duration(said)

    def require_accepted(self, *, force: bool) -> None:
        """Raise `GateRefusedError` for a run that the gate refused, unless accepted by hand: now, or in training."""
        if not (self.gate["accepted"] or self.gate.get("forced") or force):
            raise GateRefusedError(
                f"{self.path}: {RunVerdict(gate=self.gate).headline}",
                hint="train another; export adapter --force accepts it all the same, and the blob says so",
            )

    @property
    def parameters_digest(self) -> str:
        """SHA-256 of the tuned parameters: what an exported blob and an evaluation of this run have in common."""
        return hashlib.sha256((self.path / PARAMETERS_FILE).read_bytes()).hexdigest()

    @property
    def blob_metadata(self) -> dict[str, str]:
        """What a blob of this run says of where it is from: `evaluate` finds the run of a blob by it."""
        return {"method": self.method, "run": self.parameters_digest[:16]}

    @property
    def unpinned(self) -> str | None:
        """What to say of a run whose record has no digests of its files, as older ones; None for others."""
        if "files" in self.record:
            return None
        return f"{self.path / RUN_FILE} is older than its digests: nothing shows that {PARAMETERS_FILE} is this run's"

    @property
    def split(self) -> Split:
        """How the run's data were split; of a split by time, where."""
        return Split.from_dict(self.record["data"].get("split"))

    @cached_property
    def base_model(self) -> Base:
        """The base, loaded; refused when its weights are not those the run adapted. Raises `TrainError`."""
        base = load_base(self.base["source"])
        if base.digest != self.base["digest"]:
            raise TrainError(
                f"{self.path}: the run adapted weights {self.base['digest'][:16]}…, {self.base['source']} now has "
                f"{base.digest[:16]}…",
                hint="find the base the run was trained on, or train again",
            )
        return base

    def tuned_model(self) -> nn.Module:
        """Return the tuned torch model, with the parameters as they were trained (not rounded)."""
        model: nn.Module = copy.deepcopy(self.base_model.model)
        attach(model, self._method(), self.config.options)
        stored = read_parameters(self.path / PARAMETERS_FILE)
        trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if {name: tensor.shape for name, tensor in stored.items()} != {n: p.shape for n, p in trainable.items()}:
            raise TrainError(f"{self.path / PARAMETERS_FILE}: parameters are not those of method {self.method}")
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(stored[name])
        return model.eval()

    def frozen_model(self) -> nn.Module:
        """Return the base's torch model as training found it: with zero biases where the method added some."""
        base: nn.Module = self.base_model.model
        own = {name for name, _ in base.named_parameters()}
        added = [name for name in self.record["tensors"] if name not in own]
        if not added:
            return base
        model = copy.deepcopy(base)
        put_biases(model, added)
        return model

    def open_bundle(self, path: Path | str) -> Bundle:
        """Open a bundle of the base that the run tuned. Raises `ModelError` for one of other weights."""
        bundle = Bundle.open(path)
        weights = exported_weights(bundle)
        if weights != self.base["digest"]:
            raise ModelError(
                f"{path} is of weights {weights[:16] or 'not recorded'}…, "
                f"the run adapted {self.base['digest'][:16]}… ({self.base['name']})",
                hint=f"edge-tsfm export base --base {self.base['source']} --out BUNDLE",
            )
        return bundle

    def deltas(self, dtype: Dtype = "int16") -> dict[str, Delta]:
        """Return what the run adds to which of the base's parameters."""
        return self._method().deltas(self.tuned_model(), self.config.options, dtype)

    def _method(self) -> Method:
        """Return the method, with the entries that the run chose."""
        return find_method(self.method, read_entries(self.config, self.path))

    def dataset(self, data: Source | None = None) -> Dataset:
        """Read the run's data, or other ``data`` of the same layout.

        Raises `DataError`, and `SignalMismatchError` for another signal or interval than the run was trained for.
        """
        source = self.config.data if data is None else data
        if isinstance(source, str | Path) and not Path(source).exists():
            raise DataError(f"{source} no longer exists", hint="give the data with --data")
        dataset = read_run_data(self.config, source)
        check(self.binding, use_of(dataset))
        return dataset

    def windows(self, part: Part, *, data: Source | None = None) -> Windows:
        """Cut the windows of one part, from the run's data or from ``data``."""
        return cut(self.dataset(data), self.split, part, self.config)

    def held_out_contexts(self, *, data: Source | None = None, limit: int = 256) -> NDArray[np.float32]:
        """Return contexts ``[N, L]`` of the validation part, at most ``limit``, evenly spread.

        Raises `DataError` when the data cannot be found or hold no validation window.
        """
        windows = self.windows("validation", data=data)
        if len(windows) == 0:
            raise DataError("no validation window to compare forecasts on", hint="give --data")
        chosen = np.linspace(0, len(windows) - 1, min(limit, len(windows))).astype(int)
        contexts: NDArray[np.float32] = windows.context[chosen]
        return contexts

    def quantile_levels(self) -> tuple[float, ...]:
        """Return the levels of the base's forecasts."""
        return FAMILIES[self.base["family"]].levels(self.base_model.model)


def load_run(path: Path | str) -> Run:
    """Open a run folder; its files are those that its record pins.

    Raises `TrainError` when it is no run, training has not finished, or a file is not the one of this run.
    """
    folder = Path(path)
    if not (folder / RUN_FILE).exists():
        unfinished = (folder / CHECKPOINT_FILE).exists()
        raise TrainError(
            f"{folder} " + ("has not finished training" if unfinished else f"is not a run: it has no {RUN_FILE}"),
            hint="repeat its train command with --resume" if unfinished else "make one with edge-tsfm train",
        )
    record = read_record(folder / RUN_FILE)
    pinned, found = record.get("files", {}), digests(folder)
    for name, wanted in pinned.items():
        if found.get(name) != wanted:
            got = f"has SHA-256 {found[name][:16]}…" if name in found else "is missing"
            raise TrainError(
                f"{folder / name} {got}, the run's record pins {wanted[:16]}…: it is not what this run trained",
                hint="copy the whole folder again, or train it again",
            )
    return Run(path=folder, record=record)
