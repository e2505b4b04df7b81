"""``edge-tsfm-device prove``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.options import FiniteRange, bundle_argument, json_option, session_options, settings


@click.command()
@bundle_argument
@click.option(
    "--adapter",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Adapter blob whose known answer is tested and whose effect kept is measured.  [default: a random one]",
)
@click.option(
    "--max-deviation",
    type=FiniteRange(1e-6, 0.1),
    help="Let forecasts differ from the processor's by this much on average, in standard deviations of the context.  "
    "[default: as rounding in float32 does]",
)
@session_options
@json_option
def command(bundle: Path, adapter: Path | None, max_deviation: float | None, as_json: bool, **session: Any) -> None:
    """Compare a BUNDLE on an execution provider with the same bundle on the processor, and write the result beside it.

    Forecasts of short and long contexts, alone and beside others; the known-answer tests; every tunable tensor, moved
    and merged; the effect of an adapter that is kept. Only if all holds is the provider written to the bundle's
    providers.json, without which `--provider` is refused. Monitors of one type can share the file: it holds for one
    version of the provider's library and of onnxruntime.
    """
    from device_runtime.cli.signed_only import check_signed
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.proofs import write_proof
    from device_runtime.forecast.proving import prove_provider

    opened = Bundle.open(bundle)
    proof = prove_provider(opened, settings(**session), adapter=check_signed(adapter), max_deviation=max_deviation)
    write_proof(opened, proof)
    if as_json:
        click.echo(json.dumps(asdict(proof)))
        return
    on_cpu = f", {proof.nodes_on_cpu} of them on the processor" if proof.nodes_on_cpu else ""
    click.echo(
        f"{proof.provider} {proof.version}, {'static ' + proof.shape if proof.shape else 'any shape'}: "
        f"{proof.nodes} nodes{on_cpu}\n"
        f"  forecasts off the processor's by {proof.mean_deviation_ppm:.3g} ppm of the context's deviation on average, "
        f"{proof.largest_deviation_ppm:.3g} at most{', as rounding does' if proof.exact else ''}\n"
        f"  {proof.tensors} tensors proven merged, the faintest ({proof.weakest}) {proof.weakest_margin:g} times what "
        f"the provider is off by\n"
        f"  {proof.effect_kept:.2%} of the effect of {'the adapter' if adapter else 'a random adapter'} kept"
        + ("" if proof.exact else f"; known answers may be off by {proof.tolerance_ppm:.3g} ppm more")
    )
