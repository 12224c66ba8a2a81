"""Group actions against scipy's groups, closure, and averages that must be exact."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from symlab import actions
from symlab.harness import rng

GROUPS = {
    "shifts": (actions.shift_matrices(5), 5),
    "permutations": (actions.permutation_matrices(4), 24),
    "signs": (actions.sign_matrices(3), 8),
    "even signs": (actions.sign_matrices(3, special=True), 4),
    "cube": (actions.signed_permutation_matrices(3), 48),
    "rotations of the cube": (actions.signed_permutation_matrices(3, special=True), 24),
    "planar": (actions.planar_rotations(6), 6),
}


def network(n, m, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(n, 7), torch.nn.Tanh(), torch.nn.Linear(7, m)
    ).double()


def cloud(*shape, seed=0):
    return torch.from_numpy(rng.stream(seed, "cloud").normal(size=shape))


def same_set(a, b):
    """Whether two stacks of matrices hold the same matrices, each once."""
    distance = (a[:, None] - b[None]).abs().amax((-1, -2))
    return len(a) == len(b) and bool(((distance < 1e-12).sum(1) == 1).all())


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_is_closed_and_has_its_order(name):
    matrices, order = GROUPS[name]
    assert len(matrices) == order
    assert all(same_set(g @ matrices, matrices) for g in matrices)


def test_rotations_of_the_cube_are_scipys():
    ours = actions.signed_permutation_matrices(3, special=True)
    theirs = torch.from_numpy(Rotation.create_group("O").as_matrix())
    assert same_set(ours, theirs)


def test_planar_rotations_are_scipys():
    theirs = Rotation.create_group("C6", axis="Z").as_matrix()[:, :2, :2]
    assert same_set(actions.planar_rotations(6), torch.from_numpy(theirs))


@pytest.mark.parametrize(
    ("action", "matrices"),
    [
        (actions.shifts(5), actions.shift_matrices(5)),
        (actions.permutations(4), actions.permutation_matrices(4)),
        (actions.linear(actions.sign_matrices(3)), actions.sign_matrices(3)),
    ],
)
def test_functions_act_as_their_matrices_and_inverses_undo_them(action, matrices):
    x = cloud(2, matrices.shape[-1])
    for g, back, matrix in zip(action.elements, action.inverses, matrices, strict=True):
        assert torch.allclose(g(x), x @ matrix.mT, atol=1e-12)
        assert torch.equal(back(g(x)), x)


def test_permutations_of_two_axes_conjugate_a_matrix():
    a = cloud(4, 4)
    matrices = actions.permutation_matrices(4)
    for g, p in zip(actions.permutations(4, -1, -2), matrices, strict=True):
        assert torch.equal(g(a), p @ a @ p.mT)


@pytest.mark.parametrize(
    ("on_input", "on_output"),
    [
        (actions.shifts(6), actions.shifts(6)),
        (actions.permutations(4), None),
        (actions.linear(actions.planar_rotations(8)), None),
        (actions.shifts(6), actions.trivial(6)),
    ],
)
def test_an_orbit_average_is_equivariant_and_a_plain_network_is_not(
    on_input, on_output
):
    n = {24: 4, 8: 2, 6: 6}[len(on_input)]
    f, x = network(n, n), cloud(3, n)
    average = actions.orbit_average(f, on_input, on_output)
    assert actions.equivariance_error(f, x, on_input, on_output) > 0.1
    assert actions.equivariance_error(average, x, on_input, on_output) < 1e-12
    twice = actions.orbit_average(average, on_input, on_output)
    assert torch.allclose(twice(x), average(x), atol=1e-13)


def test_a_circular_convolution_is_equivariant_to_shifts():
    layer = torch.nn.Conv1d(1, 3, 3, padding=1, padding_mode="circular").double()
    turn = actions.shifts(12)
    assert actions.equivariance_error(layer, cloud(2, 1, 12), turn, turn) < 1e-14


def test_the_error_of_a_network_that_ignores_the_group_is_its_definition():
    x = torch.tensor([3.0, 1.0]).double()
    swap = actions.permutations(2)
    # f(x) = x_0 (1, 0): |f(gx) - f(x)| = 2 under invariance, and |f(x)| = 3
    assert actions.equivariance_error(
        lambda v: v * torch.tensor([1.0, 0.0]), x, swap
    ) == pytest.approx(2 / 3)
    # under equivariance f(gx) - g f(x) = (1, -3)
    assert actions.equivariance_error(
        lambda v: v * torch.tensor([1.0, 0.0]), x, swap, swap
    ) == pytest.approx(np.sqrt(10) / 3)


def test_a_product_of_shifts_acts_on_both_axes():
    both = actions.shifts(3, -1) * actions.shifts(2, -2)
    x = cloud(2, 3)
    assert len(both) == 6
    assert torch.equal(both.elements[5](x), x.roll((2, 1), (-1, -2)))
    assert all(
        torch.equal(b(g(x)), x)
        for g, b in zip(both.elements, both.inverses, strict=True)
    )


def test_the_projection_of_a_map_is_circulant_and_orthogonal():
    from scipy.linalg import circulant

    w, turns = cloud(5, 5), actions.shift_matrices(5)
    part = actions.project(w, turns, turns)
    assert np.allclose(part, circulant(part[:, 0]))
    assert float((part * (w - part)).sum()) == pytest.approx(0, abs=1e-12)
    assert torch.allclose(actions.project(part, turns, turns), part)


def test_random_rotations_have_the_moments_of_haar_measure():
    g = actions.random_rotations(rng.stream(0, "haar"), 20_000, 3)
    assert torch.allclose(torch.linalg.det(g), torch.ones(len(g)).double())
    # E g = 0, E g_ij^2 = 1/3, E tr(g)^2 = 1 and E tr(g)^4 = 3 on SO(3)
    traces = g.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert float(g.mean(0).abs().max()) < 0.02
    assert float((g.square().mean(0) - 1 / 3).abs().max()) < 0.01
    assert float(traces.square().mean()) == pytest.approx(1, abs=0.05)
    assert float(traces.pow(4).mean()) == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("d", [2, 3])
def test_a_frame_average_is_invariant_and_its_frame_has_the_stated_size(d, special):
    x = cloud(4, 9, d)
    g = actions.random_rotations(rng.stream(1, "g"), 5, d, special=special)
    moves = actions.linear(g)

    def f(clouds):
        return network(9 * d, 2)(clouds.flatten(-2))

    average = actions.frame_average(f, special=special)
    assert actions.framed(x, special=special).shape[1] == 2 ** (d - special)
    assert actions.equivariance_error(f, x, moves) > 0.1
    assert actions.equivariance_error(average, x, moves) < 1e-12
    shifted = average(x + torch.arange(d))
    assert torch.allclose(shifted, average(x), atol=1e-12)
    # the mean over the frame of a function that is invariant already is the function
    radii = actions.frame_average(lambda c: c.square().sum((-1, -2)), special=special)
    centred = x - x.mean(-2, keepdim=True)
    assert torch.allclose(radii(x), centred.square().sum((-1, -2)))


def test_a_frame_for_rotations_tells_mirror_images_apart():
    x = cloud(1, 9, 3)
    f = actions.frame_average(lambda c: torch.linalg.det(c[..., :3, :]), special=True)
    mirror = x * torch.tensor([1.0, 1.0, -1.0])
    assert torch.allclose(f(mirror), -f(x))
    assert abs(float(f(x))) > 0.01


def test_an_equivariant_frame_average_turns_and_moves_with_the_cloud():
    x = cloud(4, 6, 3)
    moves = actions.linear(actions.random_rotations(rng.stream(2, "g"), 5, 3))

    def f(clouds):
        return network(18, 6)(clouds.flatten(-2)).unflatten(-1, (2, 3))

    average = actions.equivariant_frame_average(f, special=True)
    assert actions.equivariance_error(average, x, moves, moves) < 1e-12
    t = torch.tensor([1.0, -2.0, 3.0])
    assert torch.allclose(average(x + t), average(x) + t, atol=1e-12)


def test_a_frame_that_does_not_exist_is_refused():
    square = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double()
    with pytest.raises(ValueError, match="equal variance"):
        actions.pca_frame(square)


def test_refusals_say_what_to_do():
    with pytest.raises(ValueError, match="at most 8"):
        actions.permutations(9)
    with pytest.raises(ValueError, match="orthogonal"):
        actions.linear(torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="the same elements"):
        actions.equivariance_error(
            torch.sin, torch.ones(3), actions.shifts(3), actions.trivial(2)
        )
    with pytest.raises(ValueError, match="the same elements"):
        actions.project(torch.eye(3), torch.ones(2, 3, 3), torch.ones(3, 3, 3))
