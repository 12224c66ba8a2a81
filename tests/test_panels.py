"""Panels: what is drawn is what the estimates give, and nothing is drawn of nothing."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from symlab.harness import Arm, contract, panels, plot, stats
from symlab.harness.errors import UserError
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


def test_a_misspelt_value_of_an_arm_is_refused_and_other_absences_are_not(ax, df):
    df = df.assign(arm=df.arm.map({"a": "adamw", "b": "muon"}))
    with pytest.raises(ValueError, match="no row has arm = 'Muon', .* arm = 'muon'"):
        panels.curves(ax, df, "x", "y", "arm", {"adamw": A, "Muon": B})
    panels.curves(ax, df, "x", "y", "arm", {"adamw": A, "scion": B})  # not run here
    assert ax.lines


def test_a_property_of_the_arm_is_not_taken_for_one_of_the_curve(ax, df):
    with pytest.raises(ValueError, match="line is of the arm"):
        panels.curves(ax, df, "x", "y", "arm", {"a": A}, line="none")


def test_unrolled_gives_a_row_for_each_entry_of_a_list_column():
    row = {"seed": 3, "t": [0, 10], "loss": [2.0, 1.0], "arm": "a"}
    frame = pd.DataFrame([row])
    long = panels.unrolled(frame, "t", "loss", keep=["arm"])
    assert long.to_dict("list") == {
        "seed": [3, 3], "arm": ["a", "a"], "x": [0, 10], "y": [2.0, 1.0]
    }  # fmt: skip
    assert list(panels.unrolled(frame, [5, 6], "loss").x) == [5, 6]


def test_only_hollow_arms_have_white_points_with_a_rim(ax):
    for arm in (A, replace(A, hollow=True)):
        panels.points(ax, [1], [Interval(5, 4, 7, 3)], arm)
    filled, hollow = (container[0] for container in ax.containers)
    assert filled.get_markerfacecolor() == hollow.get_markeredgecolor() == A.color
    assert hollow.get_markerfacecolor() == "white"
    assert hollow.get_markeredgewidth() > filled.get_markeredgewidth() == 0


@pytest.mark.parametrize("across", [False, True])
def test_points_have_the_ends_of_their_intervals(ax, across):
    found = [Interval(5, 4, 7, 3), Interval(6, 6, 6, 3)]
    panels.points(ax, [1, 2], found, A, across=across)
    (container,) = ax.containers
    ends = container[2][0].get_segments()[0]
    np.testing.assert_allclose(ends[:, 0 if across else 1], [4, 7])
    assert container.get_label() == "first"


@pytest.mark.parametrize("log", [None, 2])
def test_arms_apart_are_means_beside_their_place(ax, df, log):
    panels.apart(ax, df, "x", "y", "arm", {"a": A, "c": A, "b": B}, spread=0.4, log=log)
    for container, arm, shift in zip(ax.containers, "ab", (-0.2, 0.2), strict=True):
        line = container[0]
        x = np.array([1.0, 2.0])
        np.testing.assert_allclose(line.get_xdata(), x * 2**shift if log else x + shift)
        mean = df[df.arm == arm].groupby("x").y.mean()
        np.testing.assert_allclose(line.get_ydata(), mean)


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


@pytest.mark.parametrize(("shared", "right"), [(False, ["a", "b"]), (True, ["", ""])])
def test_rows_have_names_unless_the_panel_to_the_left_has_them(shared, right):
    for ax, shown in zip(Figure().subplots(1, 2), (["a", "b"], right), strict=True):
        panels.rows_of(ax, ["a", "b"], shared=shared)
        assert [t.get_text() for t in ax.get_yticklabels()] == shown
        assert ax.get_ylim() == (1.6, -0.6)


def test_heat_writes_numbers_that_can_be_read(ax):
    panels.heat(ax, [[0.0, 1.0]], rows=["r"], columns=["a", "b"], text="{:.0f}")
    dark, light = ax.texts
    assert (dark.get_text(), dark.get_color()) == ("0", "white")
    assert (light.get_text(), light.get_color()) == ("1", "black")


@pytest.mark.parametrize("below", [False, True])
def test_a_colour_scale_stands_beside_its_panel_or_below_it(ax, below):
    shown = panels.heat(ax, [[0, 1], [2, 3]])
    panels.colorbar(ax, shown, "entry", {0: "0", 3: "3"}, below=below)
    bar, panel = (a.get_position() for a in ax.figure.axes[::-1])
    assert (bar.y1 < panel.y0) == below
    assert (bar.x0 > panel.x1) != below


@pytest.mark.parametrize("aspect", [20, 5])
def test_a_colour_scale_is_as_many_times_as_long_as_wide(ax, aspect):
    panels.colorbar(ax, panels.heat(ax, [[0, 1]]), "entry", aspect=aspect)
    bar = ax.figure.axes[1]
    ax.figure.draw_without_rendering()
    assert bar.bbox.height == pytest.approx(aspect * bar.bbox.width)


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
    assert panels.fractions([0.125, 1 / 3, 2]) == {0.125: "1/8", 1 / 3: "1/3", 2: "2"}


def test_a_histogram_has_the_counts_of_its_bins(ax):
    panels.histogram(ax, [0.1, 0.2, 0.7], [0.0, 0.5, 1.0], A)
    heights = ax.patches[0].get_xy()[:, 1]
    assert sorted(set(heights)) == [0, 1, 2]
    assert ax.patches[0].get_label() == "first"


def test_a_legend_lists_closed_forms_last_and_never_hides_what_is_behind_it(ax, df):
    plot.theory(ax, [1, 2], [1, 2], label="law")
    panels.curves(ax, df, "x", "y", "arm", {"a": A, "b": B})
    panels.points(ax, [1], [Interval(5, 4, 7, 3)], A, label="points")
    panels.legend(ax)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["first", "second", "points", "law"]
    assert not any(t.get_path_effects() for t in ax.get_legend().get_texts())
    panels.legend(ax, clear=True)
    assert ax.get_legend().get_frame().get_alpha() < 1
    assert all(t.get_path_effects() for t in ax.get_legend().get_texts())


def test_intervals_end_at_the_range_of_their_quantity(ax, df):
    wide = Interval(0.2, -0.1, 1.2, 3)
    assert panels.within(wide, (0, 1)) == replace(wide, low=0, high=1)
    single = Interval(0.2, -math.inf, math.inf, 1)
    assert panels.within(single, (0, 1)) == single
    panels.points(ax, [1], [wide], A, limits=(0, 1))
    panels.forest(ax, {"row": {"a": wide}}, {"a": A}, limits=(0, 1))
    for container, along in zip(ax.containers, (1, 0), strict=True):
        (ends,) = container[2][0].get_segments()
        np.testing.assert_allclose(ends[:, along], [0, 1])
    panels.band(ax, [1, 2], [wide, wide], A, limits=(0, 1))
    panels.curve(ax, df, "x", "y", A, limits=(1.4, 2.5))
    for filled, ends in zip(ax.collections[-2:], ((0, 1), (1.4, 2.5)), strict=True):
        y = filled.get_paths()[0].vertices[:, 1]
        assert (y.min(), y.max()) == ends


def test_a_measured_level_is_not_drawn_as_a_closed_form(ax):
    panels.level(ax, Interval(5, 4, 6, 3))
    assert ax.lines[0].get_linestyle() == "-"
    low, height = ax.patches[0].get_y(), ax.patches[0].get_height()
    assert (low, low + height) == (4, 6)


def test_a_name_stands_inside_its_panel_at_the_height_of_its_line(ax):
    ax.set(xlim=(10, 60), ylim=(0, 4))
    panels.name(ax, Arm("gradient descent", plot.ORANGE), 0.5, 3)
    (text,) = ax.texts
    x, y = ax.transData.inverted().transform(
        text.get_transform().transform(text.get_position())
    )
    assert (x, y) == (pytest.approx(35), pytest.approx(3))
    assert (text.get_text(), text.get_color()) == ("gradient descent", plot.ORANGE)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_gap_stands_on_its_axis(ax, axis):
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 10)
    panels.gap(ax, axis, 2)
    ax.figure.draw_without_rendering()
    box, frame = ax.texts[0].get_window_extent(), ax.bbox
    middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    on = (0.2, 0) if axis == "x" else (0, 0.2)
    np.testing.assert_allclose(
        (middle - frame.p0) / (frame.p1 - frame.p0), on, atol=0.01
    )


def _panels():
    def draw(df, ax):
        ax.plot([0, 1], df)
        ax.set_title("Loss by rate")

    return [
        (contract.Panel("f", column, row, draw), [row, column == "left"])
        for row, column in ((1, "left"), (0, "right"), (0, "left"))
    ]


def test_letters_follow_the_rows_and_titles_stand_behind_them():
    fig = plot.compose(_panels())
    fig.canvas.draw()
    assert [a["title"] for a in plot.drawn(fig)] == [
        f"({letter}) Loss by rate" for letter in "abc"
    ]
    assert [ax.lines[0].get_ydata().tolist() for ax in fig.axes] == [
        [0, True], [0, False], [1, True]
    ]  # fmt: skip
    for ax in fig.axes:
        letter = ax._left_title.get_window_extent()
        assert 0 < ax.title.get_window_extent().x0 - letter.x1 < 20


def test_the_form_for_a_column_has_the_same_panels_one_below_the_other():
    wide, narrow = plot.compose(_panels()), plot.compose(_panels(), column=True)
    assert plot.drawn(wide) == plot.drawn(narrow)
    assert tuple(wide.get_size_inches()) == (plot.TEXT, 2 * plot.ROW)
    assert tuple(narrow.get_size_inches()) == (plot.COLUMN, 3 * plot.ROW)
    assert [panels.beside(ax) for ax in wide.axes] == [False, True, False]
    assert not any(panels.beside(ax) for ax in narrow.axes)
    narrow.canvas.draw()
    tops = [ax.get_position().y1 for ax in narrow.axes]
    assert tops == sorted(tops, reverse=True)


def test_panels_that_share_a_place_are_refused_in_either_form():
    twice = _panels() + _panels()[:1]
    for column in (False, True):
        with pytest.raises(UserError, match="give each @figure its own panel"):
            plot.compose(twice, column=column)


def _keyed(column: bool):
    arms = [replace(A, label=f"arm with a name {i}") for i in range(4)]

    def draw(df, ax):
        panels.ticks(ax, "x", {0: "one", 0.5: "two\nlines"})
        ax.set_title("Loss by rate")
        if column:
            panels.ticks(ax, "y", {0: "a long name of a row"})
        if df:
            panels.key(ax, [*arms, Arm("law", plot.BLACK, "", panels.DASHED)])

    places = [contract.Panel("f", side, 0, draw) for side in ("left", "right")]
    fig = plot.compose(list(zip(places, (True, False), strict=True)), column=column)
    fig.draw_without_rendering()
    return fig


@pytest.mark.parametrize("column", [False, True])
def test_a_key_stands_above_its_row_within_the_figure(column):
    fig = _keyed(column)
    first = fig.axes[0]
    box = first.get_legend().get_window_extent()
    assert first.title.get_window_extent().y1 < box.y0
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.width
    assert box.y1 <= fig.bbox.height
    assert len(first.get_legend().get_lines()) == 5
    tops = [ax.get_position().y1 for ax in fig.axes]
    if column:
        assert box.height > 1.5 * first.get_legend().get_texts()[0].get_size()
    else:
        assert tops[0] == pytest.approx(tops[1])
        assert box.x1 > first.bbox.x1  # it runs on and makes its panel no narrower
        assert first.bbox.width > 0.4 * fig.bbox.width


def test_first_lines_of_tick_labels_stand_at_one_height():
    fig = _keyed(column=False)
    one, two = fig.axes[0].get_xticklabels()
    heights = [name.get_window_extent().y1 for name in (one, two)]
    assert one.get_linespacing() == two.get_linespacing() == 1.0
    assert heights[0] == pytest.approx(heights[1], abs=1)


def test_ranges_reach_from_the_least_to_the_largest_value(ax, df):
    own = df[df.arm == "a"].groupby("x").y
    panels.ranges(ax, own, A, over=2.0)
    (line,), (bars,) = ax.lines, ax.collections
    np.testing.assert_allclose(line.get_xdata(), [0.5, 1.0])
    np.testing.assert_allclose(line.get_ydata(), own.mean())
    ends = [(low, high) for (_, low), (_, high) in bars.get_segments()]
    np.testing.assert_allclose(ends, np.transpose([own.min(), own.max()]))
    panels.ranges(ax, own, B, band=True)
    corners = ax.collections[1].get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == (own.min().min(), own.max().max())
    assert ax.lines[1].get_linestyle() == B.line


def test_decades_name_powers_of_ten_and_the_place_of_zero(ax):
    panels.decades(ax, "y", (-8, -4, 0), zero=1e-11, gap_at=1e-10)
    assert ax.get_yscale() == "log"
    np.testing.assert_allclose(ax.get_yticks(), [1e-11, 1e-8, 1e-4, 1])
    shown = [text.get_text() for text in ax.get_yticklabels()]
    assert shown == ["0", "$10^{-8}$", "$10^{-4}$", "$10^{0}$"]
    assert [text.get_text() for text in ax.texts] == ["//"]
    assert panels.powers([3], 2.0) == {8.0: "$2^{3}$"}


def test_a_panel_has_the_title_of_its_figure_unless_it_writes_one():
    def plain(df, ax):
        pass

    def own(df, ax):
        ax.set_title(f"{df} runs")

    for draw in (plain, own):
        contract.figure("f", title="what comes out")(draw)
    titles = [
        plot.compose([(draw._panels[0], 3)]).axes[0].get_title()
        for draw in (plain, own)
    ]
    assert titles == ["what comes out", "3 runs"]
