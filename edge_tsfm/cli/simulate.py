"""``edge-tsfm simulate``: write plausible ICU vital signs to train on."""

import json
import sys
from hashlib import sha256
from pathlib import Path

import click

from device_runtime.cli.options import FiniteRange
from device_runtime.cli.renamed import renamed_option


@click.command("simulate")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help=".parquet or .csv file")
@click.option("--patients", default=200, type=click.IntRange(min=1), help="how many")
@click.option("--hours", default=72.0, type=FiniteRange(min=2), help="longest stay; the shortest is half of it")
@click.option(
    "--site",
    default="A",
    type=click.Choice(["A", "B"]),
    help="which of two wards",
)
@click.option("--seed", default=0, type=click.IntRange(min=0), help="same seed, same patients")
@click.option("--interval", default="1h", help="between readings: 1h, 5min, 1min ...")
@renamed_option("--signals", old="--channels", default="HR,MAP,SBP,DBP,SpO2,RESP,TEMP", help="comma-separated")
@click.option("--json", "as_json", is_flag=True, help="print the summary as JSON")
def command(
    *,
    out: Path,
    patients: int,
    hours: float,
    site: str,
    seed: int,
    interval: str,
    signals: str,
    as_json: bool,
) -> None:
    """Simulate the vital signs of a ward: seeded, so the same command writes the same patients.

    They have circadian rhythms, drift, episodes and their treatment, artefacts, rounding and missing stretches;
    sites A and B differ enough that an adapter trained on one helps there.
    """
    from device_runtime.files import write_atomic
    from edge_tsfm.data.simulate import check_ending, encode_table, simulate_ward, summarise

    check_ending(out)
    hidden = as_json or not sys.stderr.isatty()
    with click.progressbar(length=patients, label="patients", file=sys.stderr, hidden=hidden) as bar:
        frame = simulate_ward(
            patients=patients,
            hours=hours,
            site=site,
            seed=seed,
            interval=interval,
            signals=[name.strip() for name in signals.split(",") if name.strip()],
            on_patient=lambda: bar.update(1),
        )
    data = encode_table(frame, out)
    write_atomic(out, data)
    facts = {
        "out": str(out),
        "site": site,
        "seed": seed,
        "interval": interval,
        "patients": patients,
        "rows": len(frame),
        "bytes": len(data),
        "sha256": sha256(data).hexdigest(),
        "signals": summarise(frame),
        "channels": summarise(frame),  # the old key, for this release
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"{out}: ward {site}, {patients} patients, {len(frame)} rows every {interval}, {len(data)} bytes")
    for name, one in summarise(frame).items():
        click.echo(f"  {name:5s} {one['mean']:7.1f} ± {one['sd']:5.1f}   {one['observed']:4.0%} observed")
