import numpy as np
import pytest

from edge_tsfm.data import Series, make_windows
from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import DataError
from edge_tsfm.evaluation.subgroups import subgroup_labels
from edge_tsfm.report.page import report_page
from edge_tsfm.report.plots import choose_windows, forecast_plot, metric_plot
from tests.edge_tsfm.evaluation.test_evaluate import report_of
from tests.support.forecasts import LEVELS, mean_forecast, ward

PNG = b"\x89PNG\r\n\x1a\n"


def test_windows_to_show_are_drawn_from_patients_alone(windows: Windows) -> None:
    chosen = choose_windows(windows, count=6, seed=0)
    assert len(set(windows.item_id[chosen])) == 6
    np.testing.assert_array_equal(chosen, choose_windows(windows, count=6, seed=0))
    assert not np.array_equal(chosen, choose_windows(windows, count=6, seed=1))
    assert len(choose_windows(ward(patients=2), count=6, seed=0)) == 2


def test_pictures_are_png_and_the_same_again(windows: Windows) -> None:
    forecasts = {"adapter": mean_forecast(windows), "base": mean_forecast(windows, off=4)}
    one = forecast_plot(forecasts, windows, LEVELS, count=2)
    assert one.startswith(PNG)
    assert one == forecast_plot(forecasts, windows, LEVELS, count=2)
    assert metric_plot(report_of(windows)).startswith(PNG)
    assert metric_plot(report_of(ward(patients=1))).startswith(PNG)


def test_the_page_holds_everything_and_escapes_names(windows: Windows) -> None:
    label = np.where(np.arange(len(windows)) < 100, "<b>", "c")
    page = report_page(report_of(windows, subgroups={"ward": label}), title="HR & MAP", pictures=[("forecasts", PNG)])
    assert "HR &amp; MAP" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "data:image/png;base64,iVBORw0KGgo=" in page
    assert "http" not in page.replace("http-equiv", "")


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
