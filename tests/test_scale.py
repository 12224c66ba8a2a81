"""Sweeps of 100,000 runs: the same keys, one look at each thing, bounded work."""

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symlab.harness import columns, contract, findings, plan, store, sweep
from symlab.harness.errors import UserError
from symlab.harness.project import Project
from tests.test_store import row

FINITE = st.floats(allow_nan=False)
CONFIGS = st.lists(
    st.fixed_dictionaries(
        {"name": st.text(), "lr": FINITE, "n": st.integers(), "on": st.booleans()}
    ),
    max_size=5,
)


@given(CONFIGS)
def test_keys_are_hashes_of_sorted_json(configs):
    """As of the first release: json.dumps of {name: [type, repr]}, sorted."""
    configs = [c | {"lr": c["lr"] + 0.0} for c in configs]  # as `typed` gives it
    for config, key in zip(configs, sweep.keys(configs), strict=True):
        said = {k: [type(v).__name__, repr(v)] for k, v in config.items()}
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        assert key == sweep.key(config) == sha256(text.encode()).hexdigest()[:16]


def test_equal_values_of_two_types_have_two_keys():
    assert len(set(sweep.keys([{"a": 1, "b": 1.0}, {"a": 1, "b": 2.0}]))) == 2
    assert sweep.keys([{"a": 1, "b": 1.0}]) != sweep.keys([{"a": 1.0, "b": 1}])
    assert sweep.keys([]) == []


def test_an_object_that_is_no_config_is_one_sentence(sandbox):
    sandbox.edit("experiments/line.py", "return grid(", "return [3] or grid(")
    with pytest.raises(UserError, match=r"line\.py: sweep\('quick'\) returned 3, "):
        contract.load(Project(sandbox.root), "line").configs("quick")


def filled(sandbox) -> Project:
    """The project with a fresh row for each of its runs."""
    project = Project(sandbox.root)
    made = plan.make(project, "line", "quick")
    rows = [
        row(key, made.code, y=2 * c["x"], **c) | {"versions": "numpy 0.1"}
        for key, c in made.configs.items()
    ]
    made.store.write_part(rows, {})
    made.store.pack()
    return project


def test_a_fresh_figure_asks_for_the_sweep_once(sandbox, monkeypatch):
    project = filled(sandbox)
    asked = []
    ask = contract.Experiment.configs
    monkeypatch.setattr(
        contract.Experiment,
        "configs",
        lambda self, *scale: asked.append(scale) or ask(self, *scale),
    )
    (made,) = findings.plans_of(project, "line", "quick")
    judged = findings.verdicts([made])
    findings.origin(project, "line", [made], judged)
    findings.draw("line", [made])
    assert [v.verdict for v in judged] == ["held"]
    assert len(asked) == 1


def test_versions_are_compared_once_for_all_rows_that_share_them(sandbox, monkeypatch):
    project, asked = filled(sandbox), []
    differ = plan.Plan.differences
    monkeypatch.setattr(
        plan.Plan, "differences", lambda p, v: asked.append(v) or differ(p, v)
    )
    made = plan.make(project, "line", "quick", strict=True)
    assert set(made.state.values()) == {"stale"}
    assert len(made.rows()) == 0
    assert asked == ["numpy 0.1"] * 2


def test_a_query_leaves_the_size_of_the_whole_sweep(sandbox):
    project = filled(sandbox)
    made = plan.make(project, "line", "quick", query="seed < 2")
    assert findings.progress(made) == (6, 12)


def test_rows_without_doubles_are_not_copied():
    table = columns.table_of([row(str(i), y=1.0) for i in range(50)], store.META)
    assert store._merge([table]).column("y").chunk(0).buffers()[1].address == (
        table.column("y").chunk(0).buffers()[1].address
    )


def test_of_doubles_the_later_one_that_went_well_stays_in_its_place():
    def part(*rows):
        return columns.table_of([row(k, status=s, y=y) for k, s, y in rows], store.META)

    first = part(("a", "ok", 1.0), ("b", "failed", 2.0), ("c", "ok", 3.0))
    second = part(("c", "failed", 4.0), ("b", "ok", 5.0), ("a", "ok", 6.0))
    merged = store._merge([first, second])
    assert list(zip(merged["key"].to_pylist(), merged["y"].to_pylist(), strict=True)) \
        == [("c", 3.0), ("b", 5.0), ("a", 6.0)]  # fmt: skip
