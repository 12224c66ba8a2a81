"""Panels: what is drawn is what the estimates give, and nothing is drawn of nothing."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from symlab.harness import Arm, panels, stats
from symlab.harness.stats import Interval

A, B = Arm("first", "#0072B2", "s", "--"), Arm("second", "#D55E00")


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture
def df():
    draws = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"arm": arm, "x": x, "seed": seed, "y": x + draws.random()}
            for arm in ("a", "b")
            for x in (1.0, 2.0)
            for seed in range(4)
        ]
    )


def test_curves_are_means_with_their_arms_looks_and_absent_arms_are_left_out(ax, df):
    panels.curves(ax, df, "x", "y", "arm", {"a": A, "b": B, "c": A}, label="{}, test")
    one, two = (line for line in ax.lines if len(line.get_xdata()) == 2)
    mean = df[df.arm == "a"].groupby("x").y.mean()
    np.testing.assert_allclose(one.get_ydata(), mean)
    assert (one.get_color(), one.get_marker(), one.get_linestyle()) == (
        A.color, "s", "--"
    )  # fmt: skip
    assert (one.get_label(), two.get_label()) == ("first, test", "second, test")
    low = ax.collections[0].get_paths()[0].vertices[:, 1].min()
    assert low == pytest.approx(stats.mean(df[(df.arm == "a") & (df.x == 1)].y).low)


def test_unrolled_gives_a_row_for_each_entry_of_a_list_column():
    row = {"seed": 3, "t": [0, 10], "loss": [2.0, 1.0], "arm": "a"}
    frame = pd.DataFrame([row])
    long = panels.unrolled(frame, "t", "loss", keep=["arm"])
    assert long.to_dict("list") == {
        "seed": [3, 3], "arm": ["a", "a"], "x": [0, 10], "y": [2.0, 1.0]
    }  # fmt: skip
    assert list(panels.unrolled(frame, [5, 6], "loss").x) == [5, 6]


@pytest.mark.parametrize("across", [False, True])
def test_points_have_the_ends_of_their_intervals(ax, across):
    found = [Interval(5, 4, 7, 3), Interval(6, 6, 6, 3)]
    panels.points(ax, [1, 2], found, A, across=across)
    (container,) = ax.containers
    ends = container[2][0].get_segments()[0]
    np.testing.assert_allclose(ends[:, 0 if across else 1], [4, 7])
    assert container.get_label() == "first"


def test_a_single_run_is_a_marker_without_an_interval(ax):
    panels.points(ax, [1], [Interval(5, -math.inf, math.inf, 1)], A)
    assert ax.containers[0][2] == ()
    panels.level(ax, Interval(5, -math.inf, math.inf, 1))
    assert not ax.patches


def test_a_forest_names_its_rows_downwards(ax):
    one, two = Interval(1, 0, 2, 4), Interval(2, 1, 3, 4)
    rows = {"top": {"a": one, "b": two}, "low": {"a": two}}
    panels.forest(ax, rows, {"a": A, "b": B})
    assert [t.get_text() for t in ax.get_yticklabels()] == ["top", "low"]
    low, high = ax.get_ylim()
    assert low > high
    assert [len(c[0].get_xdata()) for c in ax.containers] == [2, 1]


def test_heat_writes_numbers_that_can_be_read(ax):
    panels.heat(ax, [[0.0, 1.0]], rows=["r"], columns=["a", "b"], text="{:.0f}")
    dark, light = ax.texts
    assert (dark.get_text(), dark.get_color()) == ("0", "white")
    assert (light.get_text(), light.get_color()) == ("1", "black")


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_room_for_a_legend_grows_the_axis_on_its_side(ax, scale):
    ax.plot([1, 2], [1, 10], label="y")
    ax.set_yscale(scale)
    ax.set_ylim(1, 10)
    panels.legend(ax, "upper left", room=1.0)
    assert ax.get_ylim() == pytest.approx((1, 19 if scale == "linear" else 100))


def test_ticks_are_plain_numbers_and_no_others(ax):
    ax.set_xlim(0.01, 4)
    panels.ticks(ax, "x", [0.05, 0.5, 2], log=10)
    ax.figure.canvas.draw()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.05", "0.5", "2"]
    assert len(ax.xaxis.get_minorticklocs()) == 0
    panels.ticks(ax, "y", {1: "one"})
    assert [t.get_text() for t in ax.get_yticklabels()] == ["one"]


def test_a_histogram_has_the_counts_of_its_bins(ax):
    panels.histogram(ax, [0.1, 0.2, 0.7], [0.0, 0.5, 1.0], A)
    heights = ax.patches[0].get_xy()[:, 1]
    assert sorted(set(heights)) == [0, 1, 2]
    assert ax.patches[0].get_label() == "first"
