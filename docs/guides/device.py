# %% [markdown]
# # From a run to a device, and what it reports
#
# This notebook exports an adapter as a monitor gets it, forecasts a live feed with it, and then asks
# the question that matters afterwards: how good did the forecasts turn out to be? It takes
# less than a minute on two cores. [device.py](device.py) opens in Jupyter with jupytext; a test runs it.
#
# The patients are simulated; the training is short.

# %%
import edge_tsfm as et
from edge_tsfm.data.simulate import simulate_ward

ward = simulate_ward(patients=500, site="B", seed=7)
run = et.train(ward, target="MAP", method="bitfit", out="run", steps=100)
bundle = et.export_base("edge-bolt-micro", out="bundle")
blob = et.export_adapter(run, bundle, data=ward, out="map.etsa")
print(f"bundle: {sum(file.stat().st_size for file in bundle.iterdir()) / 1e6:.1f} MB, blob: {len(blob):,} bytes")

# %% [markdown]
# ## On the device
#
# From here on nothing needs torch or pandas. `Forecaster.open` checks every file of the bundle, that
# the blob is for this base and this signal, merges the two, and runs the known-answer test that the
# blob carries. Only then can it forecast.

# %%
from device_runtime import Forecaster, Stream, Use
from device_runtime.forecast.stream import StreamSignal

HOUR_MS = 3_600_000
forecaster = Forecaster.open(bundle, blob, use=Use.of("MAP", interval="1h"))
print("for", forecaster.binding)

# %% [markdown]
# A blob for another signal is refused, and the error says what to do:

# %%
from device_runtime import DeviceRuntimeError

try:
    Forecaster.open(bundle, blob, use=Use.of("HR", interval="1h"))
except DeviceRuntimeError as error:
    print(f"refused, code {error.code}: {error.args[0]}")

# %% [markdown]
# ## A live feed
#
# New patients of the same ward arrive, one sample an hour. A stream takes samples as they come: late
# ones, repeated ones, and ones that no patient can have.

# %%
import math

stay = simulate_ward(patients=1, site="B", seed=99)
stream = Stream(forecaster, (StreamSignal(name="MAP", interval_ms=HOUR_MS, low=20, high=250),))
for hour, value in enumerate(stay["MAP"]):
    if not math.isnan(value):
        stream.push("MAP", hour * HOUR_MS, float(value))
    if hour == 30:
        stream.push("MAP", hour * HOUR_MS + 1, 999.0)  # a sensor's error, not a pressure
forecast = stream.forecast("MAP", 6)
print("rejected:", stream.counts["rejected"])
for step, (low, median, high) in enumerate(forecast.quantiles[:, [0, 4, 8]], start=1):
    print(f"in {step} h: {median:.0f} mmHg, 80 % between {low:.0f} and {high:.0f}")

# %% [markdown]
# ## What it reports
#
# A monitor keeps each forecast until its targets have been measured, scores it, and lets the frozen
# base forecast one in four beside it, in shadow. A trial of an adapter is judged by that. Here the
# monitor's own code runs over the stays of sixty new patients, as at one bed:

# %%
from device_runtime.quality.rules import QualityRules
from device_runtime.update.health import HealthRules
from edge_tsfm.data import read_dataset
from edge_tsfm.runs.history import Lengths
from edge_tsfm.runs.replay import replay

stays = read_dataset(simulate_ward(patients=60, site="B", seed=100), target="MAP").series
found = replay(
    stays,
    forecaster,
    Forecaster.open(bundle),
    health=HealthRules(max_wql_vs_base_percent=2.0),
    rules=QualityRules(),
    lengths=Lengths(context_length=48, prediction_length=6, min_observed=12, interval_ms=HOUR_MS),
)
against = found.figures["against"]["base"]
print(f"{found.stays} stays, {found.forecasts:,} forecasts; {found.verdict}")
for event in found.events:
    print(f"{event.what} at stay {event.stay}: {event.why}")

# %% [markdown]
# Next: [deployment](deploy.md) signs the blob and rolls it out in stages;
# [streams](stream.md) has every rule for samples; [field quality](field-quality.md) says how verdicts
# are reached, and [adaptation](adaptation.md) what a monitor may learn by itself.
