import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tsfm.data import Series, make_windows
from edge_tsfm.errors import ConfigError

NAN = np.float32(np.nan)


def series(values: list[float], item_id: str = "p1") -> Series:
    return Series(item_id=item_id, signal="HR", interval=1.0, target=np.array(values, dtype=np.float32))


def one_by_one(
    all_series: list[Series], length: int, ahead: int, stride: int, least: int
) -> list[tuple[str, int, list[float], list[float]]]:
    """The rule in the plainest words, to compare with."""
    found = []
    for s in all_series:
        x = s.target
        for c in range(least, len(x) - ahead + 1, stride):
            context, target = x[max(0, c - length) : c], x[c : c + ahead]
            if np.isfinite(context).sum() >= least and np.isfinite(target).any():
                padded = [NAN] * (length - len(context)) + context.tolist()
                found.append((s.item_id, c, padded, target.tolist()))
    return found


values = st.lists(st.one_of(st.just(float("nan")), st.integers(1, 200).map(float)), min_size=1, max_size=30)


@given(st.lists(values, max_size=5), st.integers(1, 12), st.integers(1, 5), st.integers(1, 7), st.integers(1, 6))
def test_windows_are_those_of_the_plain_loop(
    many: list[list[float]], length: int, ahead: int, stride: int, least: int
) -> None:
    least = min(least, length)
    all_series = [series(one, f"p{i}") for i, one in enumerate(many)]
    got = make_windows(all_series, context_length=length, prediction_length=ahead, stride=stride, min_observed=least)
    wanted = one_by_one(all_series, length, ahead, stride, least)
    assert got.item_id.tolist() == [w[0] for w in wanted]
    assert got.cutoff.tolist() == [w[1] for w in wanted]
    assert got.context.shape == (len(wanted), length)
    assert got.target.shape == (len(wanted), ahead)
    for n, (_, _, context, target) in enumerate(wanted):
        np.testing.assert_array_equal(got.context[n], np.float32(context))
        np.testing.assert_array_equal(got.target[n], np.float32(target))


def test_test_windows_do_not_overlap_and_say_which_series() -> None:
    got = make_windows(
        [series(list(range(1, 31)), "a"), series(list(range(101, 131)), "b")],
        context_length=8, prediction_length=6, stride=6, min_observed=4,
    )  # fmt: skip
    assert got.cutoff.tolist() == [4, 10, 16, 22, 4, 10, 16, 22]
    assert got.series.tolist() == [0] * 4 + [1] * 4
    assert len(np.unique(got.target)) == got.target.size
    assert np.isnan(got.context[4, :4]).all()  # b's first window sees nothing of a
    assert got.context.dtype == got.target.dtype == np.float32


@pytest.mark.parametrize("broken", [{"stride": 0}, {"context_length": 0}, {"min_observed": 9}])
def test_impossible_sizes_are_refused(broken: dict[str, int]) -> None:
    sizes = {"context_length": 8, "prediction_length": 6, "stride": 6, "min_observed": 4} | broken
    with pytest.raises(ConfigError):
        make_windows([series([1.0] * 40)], **sizes)


def test_importing_the_data_package_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, edge_tsfm.data.simulate; sys.exit(bool({'torch', 'wfdb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drawn_windows_are_some_of_them_in_order_and_the_same_for_a_seed() -> None:
    whole = make_windows(
        [series(list(map(float, range(1, 60))), f"p{i}") for i in range(4)],
        context_length=8, prediction_length=2, stride=2, min_observed=3,
    )  # fmt: skip
    some = whole.draw(10, seed=1)
    assert len(some) == 10
    places = list(zip(whole.item_id, whole.cutoff, strict=True))
    found = [places.index(one) for one in zip(some.item_id, some.cutoff, strict=True)]
    assert found == sorted(set(found))
    np.testing.assert_array_equal(some.context, whole.context[found])
    np.testing.assert_array_equal(some.target, whole.target[found])
    np.testing.assert_array_equal(whole.draw(10, seed=1).context, some.context)
    assert list(whole.draw(10, seed=2).cutoff) != list(some.cutoff)
    assert whole.draw(len(whole), seed=1) is whole
