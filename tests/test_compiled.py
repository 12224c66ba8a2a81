"""Steps of lanes as one compiled program: the same rows, and when there is none."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from symlab import compiled
from symlab.harness import contract, project

ROOT = Path(__file__).resolve().parents[1]
PROJECT = project.find(Path(__file__).parent)
rescaling = contract.load(PROJECT, "rescaling_sparsity").module
plasticity = contract.load(PROJECT, "plasticity").module
compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


def rotate(state, inputs, constants):
    """A step that is cheap and whose order matters."""
    (w,), (x,), (rate,) = state, inputs, constants
    output = (w * x).sum(-1, keepdim=True)
    return (w - rate * output * x,), output


def problem(n: int, lanes: int = 3, dim: int = 5) -> tuple:
    draws = torch.Generator().manual_seed(0)
    w = torch.randn(lanes, dim, generator=draws)
    return (w,), (torch.randn(n, lanes, dim, generator=draws),), (torch.tensor(0.1),)


@pytest.fixture
def unbroken(monkeypatch):
    monkeypatch.setattr(compiled, "_failed", [])


def decide(monkeypatch, pays: bool) -> None:
    monkeypatch.setattr(compiled, "pays", lambda *_: pays)


def test_the_decision_depends_on_numbers_and_steps_alone():
    gain = compiled.PER_STEP + 1000 * compiled.PER_NUMBER
    enough = int(compiled.COMPILATION / gain) + 1
    assert compiled.pays(1000, enough)
    assert not compiled.pays(1000, enough - 2)
    assert compiled.pays(10**6, enough // 2)


def test_quick_sweeps_are_not_compiled_and_a_long_one_is():
    for module, arrays in ((rescaling, 2), (plasticity, 2)):
        configs = module.sweep("quick")
        steps = max(c.steps * getattr(c, "tasks", 1) for c in configs)
        assert not compiled.pays(arrays * len(configs) * configs[0].dim, steps)
    product = [c for c in rescaling.sweep("paper") if c.study == "lr"]
    product = [c for c in product if c.model == "product"]
    assert compiled.pays(2 * len(product) * product[0].dim, product[0].steps)


def test_steps_without_a_program_are_a_loop():
    state, inputs, constants = problem(4)
    expected, outputs = state, []
    for x in inputs[0]:
        expected, output = rotate(expected, (x,), constants)
        outputs.append(output)
    (w,), found = compiled.Steps(rotate, False)(state, inputs, constants)
    assert torch.equal(w, expected[0])
    assert torch.equal(torch.stack(found), torch.stack(outputs))


def test_blocks_are_taken_in_order_and_the_rest_singly(monkeypatch, unbroken):
    calls = []

    def program(step, shapes):
        def block(state, inputs, constants):
            calls.append(len(inputs[0]))
            return compiled._block(step, state, inputs, constants)

        return block

    monkeypatch.setattr(compiled, "_program", program)
    problems = problem(2 * compiled.BLOCK + 3)
    (w,), outputs = compiled.Steps(rotate, True)(*problems)
    (expected,), wanted = compiled.Steps(rotate, False)(*problems)
    assert calls == [compiled.BLOCK] * 2
    assert torch.equal(w, expected)
    assert torch.equal(torch.stack(outputs), torch.stack(wanted))


def test_a_failure_is_said_once_and_the_steps_are_taken_singly(monkeypatch, unbroken):
    def program(step, shapes):
        raise OSError("\nthe folder of programs cannot be written")

    monkeypatch.setattr(compiled, "_program", program)
    problems = problem(2 * compiled.BLOCK)
    steps = compiled.Steps(rotate, True)
    with pytest.warns(RuntimeWarning, match="the folder of programs") as said:
        found = [steps(*problems) for _ in range(2)]
    assert len(said) == 1
    (w,), _ = found[0]
    assert torch.equal(w, compiled.Steps(rotate, False)(*problems)[0][0])


NO_COMPILER = """
    import warnings, torch
    from symlab import compiled
    from tests.test_compiled import problem, rotate

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RuntimeWarning)
        (w,), _ = compiled.Steps(rotate, True)(*problem(10))
    (expected,), _ = compiled.Steps(rotate, False)(*problem(10))
    assert torch.equal(w, expected)
    print([str(w.message) for w in said if "torch.compile" in str(w.message)])
"""


@pytest.mark.long
def test_without_a_compiler_steps_are_taken_singly(tmp_path):
    environment = {"PATH": "/nowhere", "CXX": "/nowhere/g++", "HOME": str(tmp_path)}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NO_COMPILER)],
        env=environment, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("without torch.compile") == 1


def rows(monkeypatch, module, configs, pays: bool) -> dict[str, np.ndarray]:
    decide(monkeypatch, pays)
    found = module.run(configs)
    return {n: np.array([r[n] for r in found]) for n in found[0]}


def products(model: str) -> list:
    rates = (0.001, 0.004, 0.01)
    settings = {"model": model, "steps": 520, "dim": 24}
    return [
        rescaling.Config(lr=lr, seed=seed, **settings)
        for lr in rates
        for seed in (0, 1)
    ]


def arms() -> list:
    return [
        plasticity.Config(arm=arm, **its, dim=24, tasks=2, steps=260, seed=seed)
        for seed in (0, 1)
        for arm, its in plasticity.ARMS.items()
    ]


@compiler
@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "configs"),
    [
        (rescaling, products("product")),
        (rescaling, products("plain")),
        (plasticity, arms()),
    ],
    ids=["product", "plain", "plasticity"],
)
def test_rows_are_those_of_single_operations(monkeypatch, unbroken, module, configs):
    eager = rows(monkeypatch, module, configs, False)
    ours = rows(monkeypatch, module, configs, True)
    assert not compiled._failed
    for name, values in eager.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5, atol=1e-5)


@compiler
@pytest.mark.long
def test_a_lane_that_diverges_does_so_alone(monkeypatch, unbroken):
    configs = products("plain")
    configs.append(rescaling.Config(model="plain", lr=3.0, steps=520, dim=24))
    with np.errstate(all="ignore"):
        ours = rows(monkeypatch, rescaling, configs, True)
    assert (ours["diverged_at"][:-1] == -1).all()
    assert ours["diverged_at"][-1] > 0
    assert np.isfinite(ours["mse"][:-1]).all()
