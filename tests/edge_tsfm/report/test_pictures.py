import re

import numpy as np
import pytest

from device_runtime.format.binding import Binding
from edge_tsfm.data import Series, make_windows
from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import DataError
from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.evaluation.subgroups import subgroup_labels
from edge_tsfm.report.evaluation import report_page
from edge_tsfm.report.pictures import Shown, forecasts_file, plot_files
from edge_tsfm.report.plots import choose_windows
from edge_tsfm.report.scale import Scale
from tests.edge_tsfm.evaluation.test_evaluate import report_of
from tests.support.forecasts import LEVELS, mean_forecast, ward

SCALE = Scale(signal="HR", unit="bpm", interval_us=3_600_000_000)
PNG = b"\x89PNG\r\n\x1a\n"


def test_windows_to_show_are_drawn_from_patients_alone(windows: Windows) -> None:
    chosen = choose_windows(windows, count=6, seed=0)
    assert len(set(windows.item_id[chosen])) == 6
    np.testing.assert_array_equal(chosen, choose_windows(windows, count=6, seed=0))
    assert not np.array_equal(chosen, choose_windows(windows, count=6, seed=1))
    assert len(choose_windows(ward(patients=2), count=6, seed=0)) == 2


def shown_of(windows: Windows, **options: int) -> Shown:
    forecasts = {"adapter": mean_forecast(windows), "base": mean_forecast(windows, off=4)}
    return Shown(scale=SCALE, windows=windows, forecasts=forecasts, quantile_levels=LEVELS, **options)


def test_files_are_png_and_the_same_again(windows: Windows) -> None:
    report, shown = report_of(windows), shown_of(windows, count=2)
    files = plot_files(report, shown, "HR")
    assert sorted(files) == ["calibration", "figures", "forecasts", "patients", "steps"]
    assert all(one.startswith(PNG) for one in files.values())
    assert files == plot_files(report, shown, "HR")
    few = ward(patients=1)
    assert plot_files(report_of(few), shown_of(few), "")["figures"].startswith(PNG)


def test_a_name_is_no_formula(windows: Windows) -> None:
    windows.item_id[:] = "$^$"
    scale = Scale(signal="cost [$^$]")
    shown = Shown(
        scale=scale, windows=windows, forecasts={"base": mean_forecast(windows)}, quantile_levels=LEVELS, count=1
    )
    assert forecasts_file(shown, "$^$ of ward.csv").startswith(PNG)
    assert "patient $^$, place" in report_page(report_of(windows), title="$^$", scale=scale, shown=shown)


def test_a_page_is_the_same_again_and_says_its_pictures_in_words(windows: Windows) -> None:
    report = report_of(windows)
    made = [report_page(report, title="HR", scale=SCALE, shown=shown_of(windows)) for _ in range(2)]
    assert made[0] == made[1]
    words = re.findall(r'<img alt="(.*?)"', made[0])
    layers = made[0].count('<img class="layer')
    assert len(words) == made[0].count("<img") - layers == 6 + 3 + len(METRICS)
    assert layers == 6 * 3 + 2 + 3  # windows: measured, adapter, base; calibration; steps, with persistence
    assert len(set(words)) == len(words)
    window = next(one for one in words if "context from" in one)
    n = int(shown_of(windows).chosen[0])
    measured = windows.target[n][~np.isnan(windows.target[n])]
    assert window.startswith("HR [bpm]: context from")
    assert f"{len(measured)} values measured in 6 steps ahead, from {measured.min():.4g} to" in window


def test_the_page_holds_everything_and_escapes_names(windows: Windows) -> None:
    label = np.where(np.arange(len(windows)) < 100, "<b>", "c")
    page = report_page(
        report_of(windows, subgroups={"ward": label}), title="HR & MAP", scale=SCALE, shown=shown_of(windows)
    )
    assert "HR &amp; MAP" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("interval_us", "clock", "step"),
    [(3_600_000_000, "hours", 1), (900_000_000, "minutes", 15), (1_000_000, "seconds", 1), (0, "steps", 1)],
)
def test_time_is_said_in_the_unit_that_people_say_it_in(interval_us: int, clock: str, step: float) -> None:
    scale = Scale(signal="MAP", unit="mmHg", interval_us=interval_us)
    assert (scale.clock, scale.step) == (clock, step)
    assert scale.value_label == "MAP [mmHg]"
    assert scale.squared() == "mmHg²"


def test_an_adapters_scale_is_in_the_words_of_people() -> None:
    bound = {"context_length": 24, "prediction_length": 6}
    assert Scale.of(Binding(name="HR", unit="/min", **bound)).value_label == "HR [bpm]"
    assert Scale.of(Binding(name="MAP", unit="mm[Hg]", **bound)).value_label == "MAP [mmHg]"
    assert Scale.of(Binding(name="load", unit="", **bound)).value_label == "load"


def series(item_id: str, **attributes: str | float) -> Series:
    rng = np.random.default_rng(0)
    return Series(
        item_id=item_id,
        signal="HR",
        interval=1.0,
        target=rng.normal(80, 5, 30).astype(np.float32),
        attributes=attributes,
    )


def test_numbers_are_cut_at_the_quartiles_of_patients() -> None:
    stays = [series(f"p{age}", age=float(age)) for age in range(20, 60)] + [series("x")]
    windows = make_windows(stays, context_length=12, prediction_length=6, stride=6)
    labels = subgroup_labels(stays, windows, "age")
    assert sorted(set(labels)) == [
        "Q1: 20 to 29.75", "Q2: 29.75 to 39.5", "Q3: 39.5 to 49.25", "Q4: 49.25 to 59", "unknown",
    ]  # fmt: skip
    assert (labels[windows.item_id == "p59"] == "Q4: 49.25 to 59").all()
    assert (labels[windows.item_id == "p20"] == "Q1: 20 to 29.75").all()
    assert [(labels == one).sum() for one in sorted(set(labels))] == [30, 30, 30, 30, 3]


def test_few_values_and_texts_are_taken_as_they_are() -> None:
    stays = [series("a", sex="F", site=1.0), series("b", sex="M", site=2.0), series("c", sex="F", site=2.0)]
    windows = make_windows(stays, context_length=12, prediction_length=6, stride=6)
    assert subgroup_labels(stays, windows, "sex").tolist() == ["F"] * 3 + ["M"] * 3 + ["F"] * 3
    assert sorted(set(subgroup_labels(stays, windows, "site"))) == ["1", "2"]


def test_unknown_and_scattered_columns_are_refused() -> None:
    stays = [series(f"p{k}", note=f"text {k}") for k in range(20)]
    windows = make_windows(stays, context_length=12, prediction_length=6, stride=6)
    with pytest.raises(DataError, match="no patient has an attribute 'age'") as caught:
        subgroup_labels(stays, windows, "age")
    assert "here: note" in str(caught.value.hint)
    with pytest.raises(DataError, match="20 different values"):
        subgroup_labels(stays, windows, "note")
