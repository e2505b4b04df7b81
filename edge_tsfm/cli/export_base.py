"""``edge-tsfm export base``."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.options import FiniteRange
from device_runtime.format.learning import FOURIERFT
from edge_tsfm.cli.export_learning import learnable_type, learning_record, say_learning
from edge_tsfm.cli.export_static import Shape, say_static, static_record
from edge_tsfm.cli.paths import Existing
from edge_tsfm.cli.progress import export_bar
from edge_tsfm.cli.runs import open_run
from edge_tsfm.errors import ModelError

if TYPE_CHECKING:
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.models import Base
    from edge_tsfm.runs.run import Run
    from export import BaseExport, LearningExport, PrecisionExport, StaticExport

Progress = Callable[[str, int, int], None]


@click.command("base")
@click.option("--base", "name", default="edge-bolt-micro", help="Bundled name, local folder or hub id.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the bundle.")
@click.option(
    "--layout",
    type=click.Choice(["bundle", "optimum"]),
    default="bundle",
    help="A bundle for the device, or for Chronos-T5 the folder that Hugging Face optimum opens.",
)
@click.option(
    "--adapter",
    type=Existing(file_okay=False),
    help="With --layout optimum: merge this run's adapter.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "int8", "int8-merged", "float16", "fp16"]),
    default="float32",
    help="How weights are stored. What adapters may change stays float32; int8-merged quantises it once merged.",
)
@click.option(
    "--keep",
    help="What adapters may touch: methods, fourierft/PRESET, patterns of tensor names, between commas.  "
    "[default: fourierft,bitfit,norms]",
)
@click.option(
    "--max-deviation",
    type=FiniteRange(1e-4, 1),
    help="Largest mean deviation of forecasts from float32, in units of the contexts' scale.  [default: 0.01]",
)
@click.option(
    "--added-biases",
    is_flag=True,
    help="Add a zero bias to linear layers without one, for adapters of bitfit with --biases added.",
)
@click.option(
    "--learnable",
    type=learnable_type,
    help="Add the graphs with which a monitor learns these (export learning).  [default: none]",
)
@click.option(
    "--static",
    "shape",
    type=Shape(),
    help="Add a graph of this fixed shape for accelerators that take no other (export static).  [default: none]",
)
@click.option(
    "--run",
    type=Existing(file_okay=False),
    help="Measure also on this run's validation patients, and how much of its adapter's effect is kept.",
)
@click.option("--data", type=click.Path(path_type=Path), help="The run's data.  [default: what the run used]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export_base_command(
    name: str,
    out: Path,
    layout: str,
    adapter: Path | None,
    precision: str,
    keep: str | None,
    max_deviation: float | None,
    added_biases: bool,
    learnable: str | None,
    shape: tuple[int, int] | None,
    run: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Write a base once, after comparing its forecasts with torch's, also with every tunable tensor redrawn at random.

    Nothing is written if they differ, or, in another precision, if forecasts deviate from float32 by more than
    --max-deviation. --layout optimum compares optimum's greedy decoding with torch's instead.
    """
    from edge_tsfm.models import load_base
    from edge_tsfm.models.biases import with_added_biases

    precision = "float16" if precision == "fp16" else precision
    given = {"--keep": keep, "--max-deviation": max_deviation, "--run": run, "--data": data}
    if precision == "float32" and (idle := [option for option, value in given.items() if value is not None]):
        raise click.UsageError(f"{idle[0]} is for --precision int8, int8-merged or float16")
    if layout == "optimum" and precision != "float32":
        raise click.UsageError("--layout optimum is float32; quantise its folder with optimum-cli onnxruntime quantize")
    if layout == "bundle" and adapter is not None:
        raise click.UsageError(
            "--adapter is for --layout optimum: a bundle holds the base alone, and export adapter writes the rest"
        )
    if layout == "optimum" and learnable is not None:
        raise click.UsageError("--learnable is for bundles: optimum's graphs do not learn")
    if layout == "optimum" and added_biases:
        raise click.UsageError("--added-biases is for bundles: optimum's graphs have no adapters to take")
    if learnable is not None and precision == "int8-merged":
        raise click.UsageError(
            "--learnable has no graphs for int8-merged: a gradient is of floats; use int8 or float32"
        )
    if learnable is not None and learnable.startswith(FOURIERFT) and precision != "float32":
        raise click.UsageError(f"--learnable {learnable} is for --precision float32; biases learn in int8, too")
    if shape is not None and (layout == "optimum" or precision != "float32"):
        raise click.UsageError("--static is for bundles in float32: an accelerator has a precision of its own")
    base = load_base(name)
    if added_biases:
        base = with_added_biases(base)
    if layout == "optimum":
        _optimum(base, out, adapter, as_json)
        return
    beside = _Beside(base, learnable, shape)
    with export_bar("export base", hidden=as_json) as progress:
        if precision == "float32":
            result = _float32(base, out, progress, beside)
            reduced = None
        else:
            options = _options(base, precision, keep, max_deviation, run, data)
            with tempfile.TemporaryDirectory() as scratch:
                result = _float32(base, Path(scratch) / "float32", progress)
                reduced = _reduced(result.path, out, precision, {**options, "beside": beside}, progress)
    learning = None if beside.learning is None else replace(beside.learning, path=out)
    static = None if beside.static is None else replace(beside.static, path=out)
    if as_json:
        record = _record(result, reduced)
        record |= {} if learning is None else {"learning": learning_record(learning)}
        record |= {} if static is None else {"static": static_record(static)}
        click.echo(json.dumps(record))
        return
    _say(base.bundle_name, result, reduced)
    if learning is not None:
        say_learning(learning)
    if static is not None:
        say_static(static)


class _Beside:
    """Adds learning graphs and a static one to a bundle before it appears, where they are wanted."""

    def __init__(self, base: Base, learnable: str | None, shape: tuple[int, int] | None) -> None:
        from edge_tsfm.runs.learning import find_sites
        from export.learning import learning_parts
        from export.static import find_part

        # What a family does not have is refused before anything slow begins.
        if learnable is not None:
            learning_parts(base.family)
            find_sites(base, learnable)
        if shape is not None:
            find_part(base.family)(base.model, *shape)
        self.base, self.learnable, self.shape = base, learnable, shape
        self.learning: LearningExport | None = None
        self.static: StaticExport | None = None

    def __call__(self, bundle: Bundle) -> None:
        """Write them, if they are wanted."""
        from edge_tsfm.runs.learning import add_learning
        from export import export_static

        if self.learnable is not None:
            self.learning = add_learning(self.base, bundle, self.learnable)
        if self.shape is not None:
            steps, batch = self.shape
            self.static = export_static(self.base.model, bundle, context_length=steps, batch=batch)


def _float32(
    base: Base, out: Path, progress: Progress, beside: Callable[[Bundle], object] = lambda _: None
) -> BaseExport:
    """Write the bundle that torch is compared with."""
    from export import export_base

    return export_base(
        base.model,
        family=base.family,
        name=base.bundle_name,
        out=out,
        provenance=base.provenance,
        beside=beside,
        progress=progress,
    )


def _options(
    base: Base, precision: str, keep: str | None, max_deviation: float | None, run: Path | None, data: Path | None
) -> dict[str, Any]:
    """Turn the command's options into those of `export_precision`, before anything slow begins."""
    from edge_tsfm.methods.sites import kept_tensors
    from export.quantize import check_kept

    options: dict[str, Any] = {"adapted": kept_tensors(base.model, keep)}
    if max_deviation is not None:
        options["allowed"] = max_deviation
    if run is not None:
        trained = _run_of(base, run)
        adapter = trained.deltas()
        own = {name for name, _ in base.model.named_parameters()}
        if added := sorted(set(adapter) - own):
            raise ModelError(f"{run} tunes {added[0]}, which {base.name} does not have", hint="--added-biases")
        check_kept(adapter, options["adapted"], precision)
        options |= {"contexts": trained.held_out_contexts(data=data), "adapter": adapter}
    return options


def _run_of(base: Base, folder: Path) -> Run:
    """Open a run and check that it adapted this base."""
    run = open_run(folder)
    if run.base["digest"] != base.digest:
        raise ModelError(
            f"{folder} adapted weights {run.base['digest'][:16]}…, {base.name} has {base.digest[:16]}…",
            hint=f"--base {run.base['source']}",
        )
    return run


def _optimum(base: Base, out: Path, adapter: Path | None, as_json: bool) -> None:
    """Write optimum's layout and report."""
    from export import export_optimum

    provenance: dict[str, Any] = dict(base.provenance)
    deltas = None
    if adapter is not None:
        run = _run_of(base, adapter)
        run.require_accepted(force=False)
        deltas = run.deltas()
        provenance["adapter"] = {"method": run.method, "target": run.target, "data": run.record["data"]["fingerprint"]}
    result = export_optimum(base.model, family=base.family, out=out, provenance=provenance, deltas=deltas)
    if as_json:
        click.echo(json.dumps({**vars(result), "path": str(result.path)}))
        return
    click.echo(
        f"{result.path}: {base.name} in optimum's layout, {result.bytes / 1e6:.1f} MB, {', '.join(result.files)}"
    )
    if adapter is not None:
        click.echo(f"  the adapter of {adapter} is merged into {result.merged_tensors} tensors")
    click.echo(
        f"  optimum against torch: {result.tokens} tokens decoded greedily, logits within {result.parity:.1e} "
        "of the largest"
    )


def _reduced(source: Path, out: Path, precision: str, options: dict[str, Any], progress: Progress) -> PrecisionExport:
    """Write the float32 bundle ``source`` in another precision."""
    from device_runtime.forecast.bundle import Bundle
    from export import export_precision

    return export_precision(Bundle.open(source), out=out, precision=precision, progress=progress, **options)


def _record(result: BaseExport, reduced: PrecisionExport | None) -> dict[str, Any]:
    """Compose the JSON: the float32 export's facts, those of the other precision over them."""
    record: dict[str, Any] = {
        **vars(result),
        "path": str(result.path),
        "parity": vars(result.parity),
        "precision": "float32",
    }
    if reduced is None:
        return record
    measured = {
        name: vars(deviation) if deviation else None
        for name, deviation in (("synthetic", reduced.synthetic), ("data", reduced.data))
    }
    kept = reduced.effect_kept
    return {
        **record,
        **vars(reduced),
        "silent": [*result.silent, *reduced.silent],
        **measured,
        "path": str(reduced.path),
        "effect_kept": None if kept is None or math.isnan(kept) else kept,
    }


def _say(name: str, result: BaseExport, reduced: PrecisionExport | None) -> None:
    """Report in words."""
    written = reduced or result
    click.echo(f"{written.path}: {name}, {written.bytes / 1e6:.1f} MB, base digest {written.digest[:16]}…")
    click.echo(
        f"  {written.tensors} tunable tensors, {written.tunable_parameters:,} parameters; "
        f"{len(result.dead)} dead parameters left out"
    )
    for tensor in (*result.silent, *(reduced.silent if reduced else ())):
        click.echo(f"  {tensor}: has no effect on any forecast; frozen, not tunable")
    parity = result.parity
    click.echo(
        f"  against torch in float64: base {parity.base:.1e} of the scale (torch in float32 {parity.float32:.1e}), "
        f"every tensor drawn anew {parity.redrawn:.1e} of the forecast ({parity.redrawn_float32:.1e})"
    )
    if reduced is None:
        return
    click.echo(f"  {reduced.precision} frozen weights: {reduced.bytes / reduced.float32_bytes:.0%} of float32's size")
    for what, found in (("synthetic contexts", reduced.synthetic), ("the run's validation patients", reduced.data)):
        if found is not None:
            click.echo(
                f"  deviation from float32 on {found.contexts} contexts, {what}: mean {found.mean:.1e} of the scale, "
                f"allowed {reduced.allowed:g}; largest {found.largest:.1e}"
            )
    if reduced.effect_kept is not None:
        none = math.isnan(reduced.effect_kept)
        kept = "has no effect to keep" if none else f"keeps {reduced.effect_kept:.2%} of its effect"
        click.echo(f"  the run's adapter {kept}")
