"""The claims on gradient noise alone look at the runs without weight decay."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from symlab.harness import contract, project
from symlab.harness.claims import judge

PROJECT = project.find(Path(__file__).parent)


@pytest.mark.parametrize(
    ("experiment", "name", "column", "noise", "lr"),
    [
        ("rotation_low_rank", "noise_alone_costs_rank", "rank", "noise", 0.01),
        ("homogeneous_ensembling", "noise_alone_makes_copies", "distinct",
         "fresh_noise", 0.2),
        ("homogeneous_ensembling", "strong_noise_alone_makes_copies", "distinct",
         "fresh_noise", 0.8),
    ],
)  # fmt: skip
def test_an_effect_counts_only_where_there_is_no_decay(
    experiment, name, column, noise, lr
):
    module = contract.load(PROJECT, experiment).module
    (claim,) = (c for c in module.CLAIMS if c.name == name)
    df = pd.DataFrame([vars(c) for c in module.sweep("quick")])
    noisy = df[noise] >= 1
    here = noisy & (df.lr == lr) & (df.weight_decay == 0)
    if experiment == "rotation_low_rank":  # noise of 4 is compared with none
        here &= df[noise] == 4
    for fewer, verdict in ((here, "held"), (noisy & ~here, "failed")):
        rows = df.assign(**{column: np.where(fewer, 100, 200) - df.seed % 2})
        assert judge(experiment, claim, rows).verdict == verdict
