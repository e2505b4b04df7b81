"""Charts in layers: together they are the chart, and what is said of a place is said where it is drawn."""

import pytest
from matplotlib.axes import Axes

from edge_tsfm.report.charts import MOST_READINGS, Across, Curve, chart


def draw(axis: Axes) -> None:
    axis.plot([1, 2, 4], [1, 2, 3], color="#0072b2", gid="a", label="A")
    axis.plot([1, 2, 4], [3, 2, 1], color="#d55e00", gid="b", label="B")
    axis.axhline(2, color="#00ff01")
    axis.legend()


def picture(places: int = 3) -> tuple[Across, tuple[Curve, ...]]:
    at = (1.0, 2.0, 4.0, *map(float, range(5, 2 + places)))
    across = Across(label="hour", at=at, named=tuple(f"{x:g} h" for x in at))
    values = tuple(f"{x:g}" for x in at)
    return across, tuple(
        Curve(name=name, label=name.upper(), colour=colour, values=values)
        for name, colour in (("a", "#0072b2"), ("b", "#d55e00"))
    )


def test_each_series_is_in_its_own_layer_and_the_rest_below() -> None:
    made = chart("c", "alt", draw, *picture())
    first, second = (layer.data.decode() for layer in made.layers)
    ground = made.data.decode()
    assert [layer.label for layer in made.layers] == ["A", "B"]
    for text, own, other in ((first, "#0072b2", "#d55e00"), (second, "#d55e00", "#0072b2")):
        assert own in text
        assert other not in text
        assert "#00ff01" not in text
        assert "<text" not in text
    assert "#00ff01" in ground
    assert 'id="a"' not in ground
    assert ground.count(">A</text>") == 1  # the legend
    sizes = {text.split("viewBox=", 1)[1].split('"')[1] for text in (first, second, ground)}
    assert len(sizes) == 1
    assert chart("c", "alt", draw, *picture()) == made


def test_readings_divide_the_plot_in_the_middle_between_places() -> None:
    made = chart("c", "alt", draw, *picture())
    assert [one.text for one in made.readings] == ["1 h: A 1, B 1", "2 h: A 2, B 2", "4 h: A 4, B 4"]
    shares = [one.share for one in made.readings]
    assert abs(sum(shares) - 1) < 0.001
    # The axis goes from 1 to 4 and 5 % of that further at both ends: edges at 0.85, 1.5, 3 and 4.15.
    assert shares == pytest.approx([x / 3.3 for x in (0.65, 1.5, 1.15)], abs=1e-3)
    left, right = made.margins
    assert 0 < left < 20
    assert 0 < right < 10
    assert made.values is not None
    assert [row.name for row in made.values.rows] == ["1 h", "2 h", "4 h"]


def test_of_too_many_places_there_is_the_table_alone() -> None:
    made = chart("c", "alt", draw, *picture(MOST_READINGS + 1))
    assert made.readings == ()
    assert made.values is not None
    assert len(made.values.rows) == MOST_READINGS + 1
