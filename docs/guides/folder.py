# %% [markdown]
# # From a folder of files to a verdict
#
# Many wards have a folder with one file for each patient. This notebook goes from such a folder to
# an adapter, the gate's verdict on it, and a page for those who decide. It takes less than a
# minute on two cores: the training is short, and the base is the smallest.
# [folder.py](folder.py) opens in Jupyter with jupytext; a test runs it.
#
# The patients are simulated, and written as in the PhysioNet/CinC Challenge 2019: one `.psv` file
# each, columns separated by `|`, a row for each hour (`ICULOS`), and empty cells for what was not
# measured.

# %%
from pathlib import Path

from edge_tsfm.data.simulate import simulate_ward

folder = Path("ward")
folder.mkdir(exist_ok=True)
names = {"HR": "HR", "SpO2": "O2Sat", "TEMP": "Temp", "SBP": "SBP", "MAP": "MAP", "DBP": "DBP", "RESP": "Resp"}
for patient, stay in simulate_ward(patients=500, site="B", seed=7).groupby("item_id"):
    rows = stay.rename(columns=names)[list(names.values())].assign(
        Age=stay["age"], Gender=(stay["sex"] == "M").astype(int), ICULOS=range(1, len(stay) + 1)
    )
    rows.to_csv(folder / f"{patient}.psv", sep="|", index=False)
print(len(list(folder.glob("*.psv"))), "files, such as", next(iter(sorted(folder.glob("*.psv")))).name)

# %% [markdown]
# ## What would be read
#
# Before any training: what the reader takes from the folder, and how it understands it.

# %%
from edge_tsfm.data import read_dataset, say_interval

dataset = read_dataset(folder, target="MAP")
print(f"{dataset.signal}, a step every {say_interval(dataset.interval)}, {len(dataset.series)} series")

# %% [markdown]
# ## Train
#
# Patients are divided by their ids: some train the adapter, some decide when to stop, and others are
# the gate's. The gate compares the adapter with the frozen base. If it had refused, `train` would
# have raised `GateRefusedError`, with advice; the run folder would still be there.

# %%
import edge_tsfm as et

run = et.train(folder, target="MAP", method="fourierft", out="run", steps=100)
gate = run.gate
print(f"accepted: {gate['accepted']}; {gate['reason']}")

# %% [markdown]
# ## Evaluate
#
# The test patients were used neither for training nor for any choice. Where does the adapter help,
# and whom does it harm?

# %%
found = et.evaluate(run, subgroups=("Gender",))
print(found.verdict.headline)
for gender, group in sorted(found.report.subgroups["Gender"].items()):
    change = group.adapter_minus["base"]["wql"].relative
    print(
        f"Gender {gender}: {group.patients} patients, WQL {change.value:+.1%} ({change.low:+.1%} to {change.high:+.1%})"
    )
for one in found.report.by_patient.worst[:3]:
    print(f"largest losses: {one.item_id} {one.relative:+.1%}, {one.windows} windows")

# %% [markdown]
# ## A page for those who decide
#
# The page holds everything, in one file: figures with intervals, calibration, error by hour ahead,
# the patients with the largest losses, forecasts drawn at random. Its series can be hidden and its
# values read at each point, without scripts. On the command line it is
# `edge-tsfm evaluate run --html page.html`.

# %%
from edge_tsfm.report.evaluation import report_page
from edge_tsfm.report.pictures import Shown

shown = Shown(
    scale=found.scale, windows=found.windows, forecasts=found.forecasts, quantile_levels=found.quantile_levels
)
page = report_page(
    found.report, title=found.title, scale=found.scale, verdict=found.verdict, notes=found.notes, shown=shown
)
Path("page.html").write_text(page, encoding="utf-8")
print(f"page.html: {len(page) / 1e6:.1f} MB")

# %% [markdown]
# Next: [from a run to a device](device.py) continues on a monitor;
# [evaluation](evaluation.md) explains every figure; [how many patients](patients.md) says what the
# gate can see.
