"""The Python API: `train`, `evaluate`, `export_base`, `export_adapter` and `forecast`.

    import edge_tsfm as et
    run = et.train(frame, target="MAP", out="run")

The commands use the same functions underneath, and these raise the errors that the commands print. Data are a path, a
pandas frame, or anything that has ``to_pandas()``, such as a Polars frame. Names load on first use: ``import
edge_tsfm`` loads neither torch nor ONNX Runtime.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from device_runtime.binder import bind, check_keys
from edge_tsfm.errors import ConfigError, DataError, GateRefusedError

if TYPE_CHECKING:
    import pandas as pd

    from edge_tsfm.data.sources import Source
    from edge_tsfm.runs.evaluate import Evaluation
    from edge_tsfm.runs.groups import TrainedGroups
    from edge_tsfm.runs.run import Run
    from edge_tsfm.training.callbacks import Callback
    from edge_tsfm.training.config import TrainConfig

IN_MEMORY = "DataFrame"  # a run's record, where it was trained on a frame


GroupCallbacks = Callable[[str, Path], "Sequence[Callback]"]  # group and its folder → its callbacks


@overload
def train(
    data: Any,
    *,
    out: str | Path,
    target: str | None = None,
    method: str = "fourierft",
    callbacks: Sequence[Callback] = (),
    group_by: None = None,
    **options: Any,
) -> Run: ...


@overload
def train(
    data: Any,
    *,
    out: str | Path,
    target: str | None = None,
    method: str = "fourierft",
    callbacks: GroupCallbacks = lambda *_: (),
    group_by: str,
    **options: Any,
) -> TrainedGroups: ...


def train(
    data: Any,
    *,
    out: str | Path,
    target: str | None = None,
    method: str = "fourierft",
    callbacks: Sequence[Callback] | GroupCallbacks = (),
    group_by: str | None = None,
    **options: Any,
) -> Run | TrainedGroups:
    """Adapt a frozen base to ``data`` and write the run folder ``out``; ``edge-tsfm train`` has the same options.

    ``options`` are those of the command, with underscores: ``base``, ``steps``, ``context_length``, ``interval``, …;
    ``resume`` continues a run that was killed, ``force`` accepts an adapter that the gate refuses, ``log_to`` names
    tools that log the run (``["tensorboard"]``). ``callbacks`` are called during training: `edge_tsfm.Callback`. A run
    has no copy of data: to evaluate or export one that was trained on a frame, pass the frame again.

    ``group_by`` names a column: every value of it gets an adapter and a run folder in ``out``, all trained together.
    The result has ``runs`` and ``failed`` by group, whatever the gate says; ``callbacks`` is then a function that
    returns those of a group, given its name and folder. ``ray`` is a cluster's address (docs/guides/groups.md).

    Raises `GateRefusedError` if the adapter does not beat its frozen base on validation patients, unless ``force``
    accepts it all the same; the run folder is kept, and ``load_run`` opens it. Raises `ConfigError`, `DataError`,
    `TrainError` and `ModelError`.
    """
    from edge_tsfm.runs.log_to import open_loggers
    from edge_tsfm.runs.train import train as train_run
    from edge_tsfm.training.callbacks import checked

    source = _source(data)
    if group_by is not None:
        return _train_groups(source, Path(out), group_by, callbacks, {"target": target, "method": method, **options})
    heard = checked(callbacks)
    config, asked = _configured(source, {"target": target, "method": method, **options})
    run = train_run(
        config,
        Path(out),
        resume=asked.resume,
        force=asked.force,
        callbacks=[*heard, *open_loggers(asked.log_to, Path(out))],
        source=_in_memory(source),
    )
    if not run.gate["accepted"] and not asked.force:
        raise GateRefusedError(
            f"the adapter is not accepted: {run.gate['reason']}",
            hint="\nhint: ".join([*run.record["advice"], f"the run is kept in {out}: edge_tsfm.load_run opens it"]),
        )
    return run


def _train_groups(source: Source, out: Path, column: str, callbacks: Any, options: dict[str, Any]) -> TrainedGroups:
    """Do what `train` says of ``group_by``."""
    from edge_tsfm.runs.groups import train_groups
    from edge_tsfm.runs.log_to import open_group_loggers
    from edge_tsfm.training.callbacks import checked

    if not isinstance(column, str):
        raise ConfigError(
            f"group_by: want the name of one column, got {column!r}", hint="of several columns make one, in the data"
        )
    ray = options.pop("ray", None)
    config, asked = _configured(source, options)
    if callbacks and not callable(callbacks):
        raise ConfigError(
            "callbacks: with group_by want a function of a group's name and folder that returns its callbacks",
            hint="callbacks=lambda name, folder: [MyCallback(name)]",
        )
    loggers = open_group_loggers(asked.log_to)

    def hearing(name: str, folder: Path) -> Sequence[Callback]:
        own = checked(callbacks(name, folder)) if callbacks else ()
        return [*own, *loggers(name, folder)]

    return train_groups(
        config, out, column, source=_in_memory(source), resume=asked.resume, force=asked.force, hearing=hearing, ray=ray
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Options of `train` that are no part of a run's configuration."""

    resume: bool
    force: bool
    log_to: tuple[str, ...]


def _configured(source: Source, options: dict[str, Any]) -> tuple[TrainConfig, _Asked]:
    """Divide the options of `train`. Raises `ConfigError` for an unknown one."""
    from edge_tsfm.training.config import TrainConfig

    resume, force = (bool(options.pop(name, False)) for name in ("resume", "force"))
    log_to = options.pop("log_to", ())
    known = {field.name for field in fields(TrainConfig)} - {"data"} | {"resume", "force", "log_to"}
    check_keys(options, sorted(known), "", error=ConfigError)
    named = str(Path(source).resolve()) if isinstance(source, str | Path) else IN_MEMORY
    config = TrainConfig.from_dict({"data": named, **options})
    return config, _Asked(resume=resume, force=force, log_to=(log_to,) if isinstance(log_to, str) else tuple(log_to))


def _in_memory(source: Source) -> Source | None:
    """Return data that are in no file that a configuration could name."""
    return None if isinstance(source, str | Path) else source


def load_run(path: str | Path) -> Run:
    """Open a run folder. Raises `TrainError` if it is not one, or if its files have been replaced."""
    from edge_tsfm.runs.run import load_run as load

    return load(path)


def evaluate(run: Run | str | Path, data: Any = None, *, target: str | None = None, **options: Any) -> Evaluation:
    """Score a run's adapter on the test patients of ``data``, beside its frozen base and simple baselines.

    Without ``data``: on what the run was trained on. ``options`` are those of `edge_tsfm.runs.evaluate.Options`
    (``part``, ``subgroups``, ``most``, ``seed``, …) and of reading (``interval``, ``id_column``, …). The result's
    ``verdict`` says which is better, ``report`` has figures with intervals, ``record`` everything as plain values.

    Raises `DataError` if nothing can be scored, and `SignalMismatchError` for another signal or interval.
    """
    from edge_tsfm.data.options import DataOptions
    from edge_tsfm.runs.evaluate import Options, evaluate_run, read_for

    opened = _run(run)
    scored, read = _split(options, Options, DataOptions)
    dataset = read_for(opened, _given(opened, data), DataOptions.of(read), target=target)
    return evaluate_run(opened, dataset, Options(**scored))


def export_base(
    base: str | Path = "edge-bolt-micro", *, out: str | Path, precision: str = "float32", keep: str | None = None
) -> Path:
    """Write a base as a bundle for the device, compared with torch first; return its folder.

    ``precision`` is ``float32``, ``int8`` or ``float16``; for the last two, ``keep`` says what adapters may change,
    which stays float32. Raises `ModelError` for a base that cannot be loaded, `ExportError` if the comparison fails.
    """
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.methods.sites import kept_tensors
    from edge_tsfm.models import load_base
    from export import export_base as write_base
    from export import export_precision

    if precision not in ("float32", "int8", "float16"):
        raise ConfigError(f"precision {precision!r}: want float32, int8 or float16")
    if precision == "float32" and keep is not None:
        raise ConfigError("keep is for precision int8 or float16")
    loaded = load_base(str(base))
    facts: dict[str, Any] = {"family": loaded.family, "name": loaded.bundle_name, "provenance": loaded.provenance}
    if precision == "float32":
        written: Path = write_base(loaded.model, out=Path(out), **facts).path
        return written
    with tempfile.TemporaryDirectory() as scratch:
        full = write_base(loaded.model, out=Path(scratch) / "float32", **facts)
        adapted = kept_tensors(loaded.model, keep)
        bundle = Bundle.open(full.path)
        reduced: Path = export_precision(bundle, out=Path(out), precision=precision, adapted=adapted).path
        return reduced


def export_adapter(
    run: Run | str | Path,
    bundle: str | Path,
    *,
    out: str | Path | None = None,
    data: Any = None,
    version: int = 1,
    calibrate: bool = False,
    force: bool = False,
) -> bytes:
    """Encode a run's adaptation as a blob for ``bundle``, checked on validation patients; return its bytes.

    ``out`` is a file to write it to as well. ``data`` are the run's own data, needed for a run of a frame. Raises
    `GateRefusedError` for a run that the gate refused, unless ``force``; `ExportError` when torch and the runtime
    differ.
    """
    from device_runtime.files import write_atomic
    from edge_tsfm.runs.export import export_run

    opened = _run(run)
    opened.require_accepted(force=force)
    blob = export_run(
        opened, opened.open_bundle(bundle), version=version, calibrate=calibrate, data=_given(opened, data)
    ).blob
    if out is not None:
        write_atomic(Path(out), blob)
    return blob


def forecast(
    bundle: str | Path,
    data: Any,
    *,
    target: str | Sequence[str],
    adapter: bytes | str | Path | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Forecast every series of ``data`` with the device runtime, in chronos-forecasting's layout.

    ``bundle`` is a bundle's folder, or the name of a repository of the Hugging Face hub that ``edge-tsfm push`` wrote
    (``owner/name``): then ``adapter`` defaults to the one in it.

    ``options`` are those of `edge_tsfm.runs.forecasts.Asked` (``prediction_length``, ``context_length``,
    ``quantile_levels``, ``past_covariates``, ``future_covariates``, ``num_samples``, ``seed``, ``min_observed``,
    ``accept``) and of reading (``interval``, ``id_column``, …). Lengths are in steps and default to the
    adapter's, else 48 and 6.

    A row for each item, target and step: ``item_id``, ``timestamp`` of the step (in the time zone of a frame's times;
    UTC for a file's; by the calendar where they are days of a zone or months; the step's number where the data count
    steps), ``target_name``, ``predictions`` (the median) and
    a column for each quantile level. Of an item that was split at a long gap, the last series is forecast.
    ``frame.attrs`` has ``base``, ``adapter`` (digests) and ``left_out``: what could not be forecast, and why.

    Raises `ConfigError` for an unknown option, `DataError` if nothing can be forecast, `SignalMismatchError` for an
    adapter for something else, unless ``accept`` names the difference, and what `device_runtime.Forecaster` raises.
    """
    from edge_tsfm.data.calendar import by_calendar
    from edge_tsfm.data.in_memory import zone_of
    from edge_tsfm.data.options import DataOptions
    from edge_tsfm.runs.forecasts import Asked, forecast_data
    from edge_tsfm.runs.hub import open_place

    given = adapter if adapter is None or isinstance(adapter, bytes) else Path(adapter)
    source = _source(data)
    asked, read = _split(options, Asked, DataOptions)
    reading = DataOptions.of(read)
    rows = None if isinstance(source, str | Path) else source
    calendar = None if rows is None or reading.interval else by_calendar(rows, reading.timestamp_column)
    targets = (target,) if isinstance(target, str) else tuple(target)
    place, blob = open_place(bundle, given)
    found = forecast_data(
        place,
        source if calendar is None else calendar.frame,
        replace(bind(Asked, asked | {"targets": targets}, "", error=ConfigError), reading=reading),
        adapter=blob,
    )
    frame = found.frame()
    last = frame.groupby("item_id", sort=False)["segment"].transform("max")
    frame = frame[frame["segment"] == last].drop(columns=["segment", "step"]).reset_index(drop=True)
    zone = None if rows is None else zone_of(rows, reading.timestamp_column)
    if calendar is not None:
        frame["timestamp"] = calendar.stamps(frame["timestamp"])
    elif zone is not None:
        frame["timestamp"] = frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert(zone)
    median = min(found.levels, key=lambda level: abs(float(level) - 0.5))
    frame.insert(2, "target_name", frame.pop("target_name"))
    if float(median) == 0.5:
        frame.insert(3, "predictions", frame[median])
    frame.attrs = {"base": found.forecast.base, "adapter": found.forecast.adapter, "left_out": dict(found.left_out)}
    return frame


def _split(options: Mapping[str, Any], one: type, other: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide options among two dataclasses that declare them. Raises `ConfigError` for one that neither has."""
    own = [field.name for field in fields(one) if field.name not in ("targets", "reading")]
    check_keys(options, [*own, *(field.name for field in fields(other))], "", error=ConfigError)
    first = {name: options[name] for name in options if name in own}
    return first, {name: options[name] for name in options if name not in first}


def _source(data: Any) -> Source:
    """Return a path, or a pandas frame of whatever frame it is. Raises `DataError`."""
    if isinstance(data, str | Path):
        return data
    if hasattr(data, "collect"):
        raise DataError(f"data: a {type(data).__name__} holds no rows yet", hint="give what its collect() returns")
    frame = data.to_pandas() if hasattr(data, "to_pandas") else data
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"data: want a path or a frame, got {type(data).__name__}")
    return frame


def _run(run: Run | str | Path) -> Run:
    """Open a run, unless it is."""
    return load_run(run) if isinstance(run, str | Path) else run


def _given(run: Run, data: Any) -> Any:
    """Return the given data, or for None the run's own file if it has one. Raises `DataError`."""
    if data is not None:
        source = _source(data)
        return Path(source) if isinstance(source, str) else source
    if run.config.data == IN_MEMORY:
        raise DataError(f"{run.path} was trained on a frame, which it does not keep", hint="give the frame: data=frame")
    return None
