"""The file of a figure's arrays is JSON that any reader takes, whatever was drawn."""

import datetime
import json
import warnings

import numpy as np
import pandas as pd
import pytest

from symlab.harness import Arm, panels, plot
from symlab.harness.contract import Panel

INF, NAN = np.inf, np.nan


def refuse(constant: str):
    raise AssertionError(f"{constant} is not JSON")


def arrays(draw, tmp_path) -> dict:
    """What the JSON file of a figure says of its one panel, read strictly."""
    with warnings.catch_warnings():
        # matplotlib's own, of a bar that reaches to infinity
        warnings.filterwarnings("ignore", "invalid value", RuntimeWarning)
        figure = plot.compose([(Panel("f", "main", 0, draw), pd.DataFrame())])
        paths = plot.save(figure, tmp_path / "f", {"figure": "f"})
    (panel,) = json.loads(paths[2].read_text(), parse_constant=refuse)["axes"]
    return panel


def test_infinities_are_words_and_nan_is_null(tmp_path):
    panel = arrays(lambda _, ax: ax.plot([0, 1, 2, 3], [1, INF, -INF, NAN]), tmp_path)
    (line,) = panel["lines"]
    assert line["y"] == [1.0, "inf", "-inf", None]
    assert np.array(line["y"], float)[1:3].tolist() == [INF, -INF]


def test_names_on_an_axis_are_kept(tmp_path):
    def draw(_, ax):
        ax.plot(["adam", "muon"], [1.0, 2.0])
        ax.bar(["adam", "muon"], [1.0, INF])
        ax.scatter(["adam", "muon"], [1.0, INF])

    panel = arrays(draw, tmp_path)
    assert panel["lines"][0]["x"] == ["adam", "muon"]
    assert panel["bars"][1][2] == "inf"


def test_dates_on_an_axis_are_texts(tmp_path):
    days = [datetime.date(2024, 1, d) for d in (1, 2)]
    panel = arrays(lambda _, ax: ax.plot(days, [1.0, 2.0]), tmp_path)
    assert panel["lines"][0]["x"] == ["2024-01-01", "2024-01-02"]


def test_a_curve_over_names(tmp_path):
    rows = {"seed": [0, 1, 0, 1], "x": list("aabb"), "y": [1.0, 2.0, 3.0, 4.0]}
    df = pd.DataFrame(rows)
    arm = Arm("y", plot.BLUE)
    panel = arrays(lambda _, ax: panels.curve(ax, df, "x", "y", arm), tmp_path)
    assert panel["lines"][0]["y"] == [1.5, 3.5]


def test_an_origin_that_is_not_json_is_refused(tmp_path):
    figure = plot.compose([(Panel("f", "main", 0, lambda df, ax: None), None)])
    with pytest.raises(ValueError, match="not JSON compliant"):
        plot.save(figure, tmp_path / "f", {"value": NAN})
    assert not list(tmp_path.iterdir())
