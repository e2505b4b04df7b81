# %% [markdown]
# # From a DataFrame to a plot
#
# Ten lines, no training, about half a minute. This page is also a notebook: open
# [dataframe.py](dataframe.py) with Jupyter and jupytext. A test runs it.
#
# The patients are simulated. Any DataFrame with one column of patients, one of times and one of
# values will do.

# %%
import matplotlib.pyplot as plt
import pandas as pd

import edge_tsfm as et
from edge_tsfm.data.simulate import simulate_ward

ward = simulate_ward(patients=20, site="B", seed=3)
stay = ward[ward["item_id"] == ward["item_id"].value_counts().idxmax()].tail(54)
known, later = stay.head(48), stay.tail(6)
bundle = et.export_base("edge-bolt-micro", out="bundle")
forecast = et.forecast(bundle, known, target="MAP", prediction_length=6)
figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
axes.plot(stay["timestamp"], stay["MAP"], color="black", marker=".", label="measured")
axes.plot(forecast["timestamp"], forecast["predictions"], color="tab:blue", label="median")
axes.fill_between(forecast["timestamp"], forecast["0.1"], forecast["0.9"], color="tab:blue", alpha=0.2, label="80 %")

# %% [markdown]
# The model did not see the last six hours. Label the axis and save the plot:

# %%
axes.set(ylabel="mean arterial pressure, mmHg")
axes.legend(loc="upper left", frameon=False)
figure.autofmt_xdate()
figure.savefig("forecast.png", dpi=120)

# %% [markdown]
# ![Measured pressure of one patient, and what the frozen base forecasts for the last six
# hours](../pictures/dataframe-forecast.png)
#
# `forecast` has a row for each step, in the layout of chronos-forecasting: the patient, the time
# of the forecast value, the median as `predictions`, and a column for each quantile level.

# %%
columns = ["item_id", "timestamp", "predictions", "0.1", "0.9"]
print(forecast[columns].to_string(index=False, float_format="{:.1f}".format))

# %% [markdown]
# The mean absolute error, compared with that of the simplest baseline, which repeats the last value:

# %%
errors = pd.DataFrame(
    {
        "frozen base": (forecast["predictions"].to_numpy() - later["MAP"].to_numpy()),
        "persistence": (known["MAP"].dropna().iloc[-1] - later["MAP"].to_numpy()),
    }
)
print(errors.abs().mean().round(1).to_string())

# %% [markdown]
# One patient says nothing about a model. [Evaluation](evaluation.md) scores hundreds, with
# intervals.
#
# This was the frozen base. With more patients, `et.train(ward, target="MAP", out="run")` adapts
# it to the ward, and `et.export_adapter` writes the file of a few kilobytes that
# `et.forecast(…, adapter=…)` takes. [Use it from Python](python.md) continues from here, and
# [how many patients](patients.md) says when training is worthwhile.
