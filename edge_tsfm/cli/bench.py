"""``edge-tsfm bench``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edge_tsfm.cli.paths import Existing
from edge_tsfm.errors import ConfigError

PRECISIONS = ("float32", "int8", "int8-merged", "float16")


@click.command()
@click.option("--base", "name", default="edge-bolt-micro", help="Bundled name or local folder.")
@click.option(
    "--config",
    type=Existing(),
    help="A config.json: a model of that shape, with randomly initialised weights.",
)
@click.option("--bundle", type=Existing(), help="A bundle of --base.  [default: export one]")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    help="Precision of the weights in the exported bundle.",
)
@click.option("--keep", help="With --precision: what adapters may change, as in export base.")
@click.option("--adapter", type=Existing(), help="Adapter blob to activate.")
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads for torch and for the runtime.")
@click.option("--runs", type=click.IntRange(3), default=100, help="Timed forecasts of each.")
@click.option(
    "--profile", type=click.Path(path_type=Path), help="Write ONNX Runtime's profile of one forecast to this file."
)
@click.option(
    "--optimum/--no-optimum",
    default=None,
    help="Also time Hugging Face optimum's ORTModelForSeq2SeqLM.  [default: for Chronos-T5, if it is installed]",
)
@click.option(
    "--clock",
    type=click.Choice(["wall", "processor"]),
    default="wall",
    help="processor: measure processor time instead of wall time, for a busy machine; with --threads 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    name: str,
    config: Path | None,
    bundle: Path | None,
    precision: str,
    keep: str | None,
    adapter: Path | None,
    threads: int,
    runs: int,
    profile: Path | None,
    optimum: bool | None,
    clock: str,
    as_json: bool,
) -> None:
    """Time the device runtime against the torch pipeline and optimum's: forecasts, start, memory, activation.

    They run in turn in one process, so only the ratios carry over to other machines; start-up and memory are measured
    in separate processes. Run it on an idle machine.
    """
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.models import BUNDLED, load_base
    from edge_tsfm.models.base import BUNDLED_FOLDER
    from edge_tsfm.research.bench import check_timed, optimum_runs, run_bench
    from export import export_base, export_optimum, export_precision

    if bundle is not None and precision != "float32":
        raise click.UsageError("--precision is for the bundle that is exported, not for a given --bundle")
    if clock == "processor" and threads != 1:
        raise click.UsageError("--clock processor counts waiting threads too: it wants --threads 1")
    if keep is not None and precision == "float32":
        raise click.UsageError("--keep is for --precision int8, int8-merged or float16")
    with tempfile.TemporaryDirectory() as scratch:
        source = random_base(config, Path(scratch) / "random") if config else name
        base = load_base(source)
        check_timed(base.family, optimum=bool(optimum))
        if bundle is None:
            bundle = Path(scratch) / "bundle"
            export_base(base.model, family=base.family, name=base.bundle_name, out=bundle, provenance=base.provenance)
            if precision != "float32":
                from edge_tsfm.methods.sites import kept_tensors

                source_bundle, bundle = Bundle.open(bundle), Path(scratch) / precision
                adapted = kept_tensors(base.model, keep)
                export_precision(source_bundle, out=bundle, precision=precision, adapted=adapted)
        folder = BUNDLED_FOLDER / source if source in BUNDLED else Path(source)
        opened = Bundle.open(bundle)
        layout = Path(scratch) / "optimum" if optimum or (optimum is None and optimum_runs(base.family)) else None
        if layout is not None:
            export_optimum(base.model, family=base.family, out=layout, provenance=base.provenance)
        figures = dict(
            run_bench(base, folder, opened, adapter, threads=threads, runs=runs, optimum=layout, clock=clock)
        )
        if profile is not None:
            from edge_tsfm.research.profiling import profile_forecast

            figures["profile"] = profile_forecast(opened, profile, threads=threads)
    click.echo(json.dumps(figures) if as_json else _table(figures))


def random_base(config: Path, folder: Path) -> str:
    """Save a model of a published shape with weights as its own library draws them.

    Raises `ConfigError` for another architecture than those that are timed.
    """
    import torch
    from transformers import AutoConfig

    from edge_tsfm.models import FAMILIES

    torch.manual_seed(0)
    try:
        shape = AutoConfig.from_pretrained(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{config}: not a model's config.json: {error}") from error
    classes = {family.model_class: family.timed for family in FAMILIES.values() if family.timed}
    wanted = (shape.architectures or ["none"])[0]
    if wanted not in classes:
        raise ConfigError(f"{config}: architecture {wanted}", hint=f"bench makes {', '.join(classes)}")
    classes[wanted].architecture()(shape).save_pretrained(folder)
    return str(folder)


def _table(figures: Mapping[str, Any]) -> str:
    """Lay the figures out."""
    lines = [
        figures["processor"],
        f"{figures['precision']} bundle of {figures['bundle_mb']:.1f} MB, {figures['threads']} threads, "
        f"{figures['clock']} time",
        "",
        f"{'forecast':24}{'torch':>10}{'runtime':>10}{'ratio':>8}{'optimum':>10}{'ratio':>8}{'floor':>10}",
    ]
    for name, row in figures["forecast"].items():
        floor, optimum = ("–" if row[key] is None else f"{row[key]:.2f}ms" for key in ("floor_ms", "optimum_ms"))
        over = "–" if row["optimum_ratio"] is None else f"{row['optimum_ratio']:.1f}×"
        lines.append(
            f"{name:24}{row['torch_ms']:>8.2f}ms{row['runtime_ms']:>8.2f}ms{row['ratio']:>7.1f}×{optimum:>10}{over:>8}{floor:>10}"
        )
    start = figures["start_to_first_forecast"]
    runtime = start["runtime"]
    lines += ["", f"{'start to first forecast':24}{'seconds':>10}{'ratio':>8}{'peak MB':>10}{'ratio':>8}"]
    for name, row in start.items():
        slower, larger = (row[key] / runtime[key] for key in ("seconds", "peak_memory_mb"))
        lines.append(f"{name:24}{row['seconds']:>10.2f}{slower:>7.1f}×{row['peak_memory_mb']:>10.0f}{larger:>7.1f}×")
    lines += ["", f"activation (check, merge, session, self-test): {figures['activation_ms']:.0f} ms"]
    for name, share in list(figures.get("profile", {}).items())[:6]:
        lines.append(f"  {share:5.1%} of a forecast in {name}")
    return "\n".join(lines)
