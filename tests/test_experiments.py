"""What every experiment must keep, beyond the contract that loading it checks."""

import inspect
import itertools
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from symlab.harness import contract, project

PROJECT = project.find(Path(__file__).parent)
IN_KEYS = {"errors", "lanes", "progress", "rng"}  # modules of the harness that runs use


def shortened(name: str, config: dict) -> dict:
    """The config, with 50 steps where rounding grows from step to step.

    At learning rate 0.8 and without weight decay a difference of 3e-16 after 10 steps
    is one of 1e-10 after 50 and of 0.4 after 200.
    """
    chaotic = name == "homogeneous_ensembling" and config["lr"] == 0.8
    return config | {"steps": 50} if chaotic else config


@pytest.mark.parametrize(
    "places", ["last", pytest.param("first, middle", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("name", contract.names(PROJECT))
def test_a_config_alone_gives_the_row_it_gives_among_others(name, places):
    experiment = contract.load(PROJECT, name)
    if experiment.lanes == 1:
        pytest.skip("runs are never together")
    if experiment.lacks:
        pytest.skip(f"{name} {experiment.lacks}")
    configs = [shortened(name, c) for c in experiment.configs("smoke").values()]
    may_be_nan = getattr(experiment.module, "MAY_BE_NAN", ())

    def static(c):
        return tuple(c[f] for f in experiment.static)

    for _, group in itertools.groupby(sorted(configs, key=static), key=static):
        group = list(group)
        together = experiment.run(group)
        for i in [-1] if places == "last" else [0, len(group) // 2]:
            (alone,) = experiment.run([group[i]])
            for column, value in alone.items():
                if isinstance(value, str):
                    assert together[i][column] == value
                    continue
                assert together[i][column] == pytest.approx(
                    value, rel=1e-5, abs=1e-9, nan_ok=column in may_be_nan
                ), (column, group[i])


@pytest.mark.parametrize("name", contract.names(PROJECT))
def test_designs_pair_their_arms(name):
    """Arms of a study have the same seeds, or the first of them: differences pair."""
    experiment = contract.load(PROJECT, name)
    for scale in ("smoke", "quick", "paper"):
        df = pd.DataFrame(experiment.configs(scale).values())
        arms = [c for c in df if c != "seed"]
        per_study = df.groupby(arms).seed.apply(frozenset)
        key = "study" if "study" in df else None
        for seeds in per_study.groupby(level=key) if key else [("", per_study)]:
            most = sorted(max(seeds[1], key=len))
            assert all(sorted(own) == most[: len(own)] for own in set(seeds[1]))


@pytest.mark.parametrize("name", contract.names(PROJECT))
def test_rows_depend_on_little_of_the_harness(name):
    """An edit of the engine, the store, claims or figures makes no row stale."""
    reached = contract.load(PROJECT, name).reached.definitions
    modules = {n.split(":")[0] for n in reached if n.startswith("symlab.harness")}
    assert modules <= {f"symlab.harness.{module}" for module in IN_KEYS}


@pytest.mark.parametrize("name", contract.names(PROJECT))
def test_fields_are_explained_and_devices_are_followed(name):
    experiment = contract.load(PROJECT, name)
    source = inspect.getsource(experiment.module.Config)
    assert source.count('"""') >= 2 * len(fields(experiment.module.Config))
    takes = "context" in inspect.signature(experiment.module.run).parameters
    assert takes or experiment.devices == ("cpu",), "run cannot know the device"


@pytest.mark.parametrize("name", contract.names(PROJECT))
def test_tables_at_the_top_of_a_file_are_written_once(name):
    """A constant that is changed later in its file cannot be read where it stands."""
    lines = (PROJECT.experiments / f"{name}.py").read_text().splitlines()
    changed = [x for x in lines if not x.startswith((" ", "#")) and "+= " in x]
    changed += [x for x in lines if not x.startswith((" ", "#")) and "|= " in x]
    assert changed == []
