"""``edge-tsfm demo``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), help="Folder for the output."
)
@click.option("--patients", type=click.IntRange(60), default=1_500, help="Patients in each ward.")
@click.option("--steps", type=click.IntRange(50), default=300, help="Training steps of each method.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(out: Path, patients: int, steps: int, as_json: bool) -> None:
    """Run the main job from end to end, offline: simulate two wards, adapt to one, export, merge, forecast."""
    from edge_tsfm.demo import run_demo, verdict
    from edge_tsfm.report.text import conclusion, report_text

    demo = run_demo(out, lambda text: None if as_json else click.echo(text), patients=patients, steps=steps)
    if as_json:
        reports = {
            method: {"verdict": verdict(demo, method, report, "test").to_dict(), **report.to_dict()}
            for method, report in demo.reports.items()
        }
        elsewhere = demo.elsewhere.to_dict()
        click.echo(json.dumps({"seconds": demo.seconds, "bytes": demo.sizes, "reports": reports, "ward_a": elsewhere}))
        return
    for method, report in demo.reports.items():
        click.echo(f"\n{method}, {demo.sizes[method]:,} bytes:")
        say = report_text if method == "fourierft" else conclusion
        click.echo(say(report, verdict(demo, method, report, "test")))
    other = verdict(demo, "fourierft", demo.elsewhere, "ward A")
    click.echo(f"\nfourierft on ward A, for which it was not made:\n{conclusion(demo.elsewhere, other)}\n")
    click.echo(f"picture: {demo.picture}    {demo.seconds:.0f} s in all")
    click.echo(f"the device alone: {demo.device_command}")
