"""Colour refinement, frames of graphs and the named pairs, against networkx."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from symlab import graphs
from symlab.harness import rng

PAIRS = graphs.pairs()
pytestmark = pytest.mark.filterwarnings("ignore:The hashes produced:UserWarning")


def wl_hash(a):
    return nx.weisfeiler_lehman_graph_hash(nx.from_numpy_array(a), iterations=len(a))


def random_graphs():
    """Small graphs of equal size, some regular, with isomorphic copies among them."""
    found = []
    for seed in range(4):
        a = nx.to_numpy_array(nx.gnm_random_graph(7, 9, seed=seed), dtype=int)
        p = rng.stream(seed, "labels").permutation(7)
        found += [a, a[np.ix_(p, p)]]
    for seed in range(3):
        regular = nx.random_regular_graph(4, 7, seed=seed)
        found.append(nx.to_numpy_array(regular, nodelist=range(7), dtype=int))
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_colour_refinement_decides_as_networkx(name):
    a, b = PAIRS[name]
    assert graphs.told_apart(a, b) == (wl_hash(a) != wl_hash(b))


def test_colour_refinement_decides_as_networkx_on_random_graphs():
    for a, b in combinations(random_graphs(), 2):
        assert graphs.told_apart(a, b) == (wl_hash(a) != wl_hash(b))


@pytest.mark.parametrize("name", PAIRS)
def test_the_graphs_of_a_pair_are_alike_and_not_isomorphic(name):
    a, b = PAIRS[name]
    assert np.array_equal(a, a.T)
    assert not a.diagonal().any()
    assert a.shape == b.shape
    assert a.sum() == b.sum()
    assert not nx.is_isomorphic(nx.from_numpy_array(a), nx.from_numpy_array(b))


def test_the_named_graphs_are_those_of_networkx():
    named = {
        "hexagon, triangles": (nx.cycle_graph(6), nx.disjoint_union_all(
            [nx.cycle_graph(3)] * 2)),
        "prism, K33": (nx.circular_ladder_graph(3), nx.complete_bipartite_graph(3, 3)),
        "path, star": (nx.path_graph(4), nx.star_graph(3)),
    }  # fmt: skip
    for name, theirs in named.items():
        for a, g in zip(PAIRS[name], theirs, strict=True):
            assert nx.is_isomorphic(nx.from_numpy_array(a), g)
    rook = nx.line_graph(nx.complete_bipartite_graph(4, 4))
    shrikhande, ours = map(nx.from_numpy_array, PAIRS["Shrikhande, rook"])
    assert nx.is_isomorphic(ours, rook)
    # only two graphs are strongly regular with parameters (16, 6, 2, 2)
    assert nx.is_strongly_regular(shrikhande)
    assert nx.is_strongly_regular(rook)
    degrees = {d for _, d in shrikhande.degree}
    assert degrees == {6}
    assert set(nx.triangles(shrikhande).values()) == {6}


def test_decalin_and_bicyclopentyl_have_their_rings():
    decalin, bicyclopentyl = PAIRS["decalin, bicyclopentyl"]
    rings = [
        sorted(map(len, nx.minimum_cycle_basis(nx.from_numpy_array(a))))
        for a in (decalin, bicyclopentyl)
    ]
    assert rings == [[6, 6], [5, 5]]


@pytest.mark.parametrize("frame", [graphs.refined_frame, graphs.spectral_frame])
def test_a_frame_goes_with_the_graph(frame):
    """Isomorphic graphs have equal sets of reordered matrices, others disjoint sets."""
    few = random_graphs()[:6] + random_graphs()[-2:]
    kept = [set(map(bytes, graphs.reordered(a, frame(a)))) for a in few]
    for (a, u), (b, v) in combinations(zip(few, kept, strict=True), 2):
        same = nx.is_isomorphic(nx.from_numpy_array(a), nx.from_numpy_array(b))
        assert (u == v) if same else u.isdisjoint(v)


@pytest.mark.parametrize("name", ["path, star", "decalin, bicyclopentyl"])
def test_the_spectral_frame_lists_what_its_size_says(name):
    for a in PAIRS[name]:
        frame = graphs.spectral_frame(a)
        assert (
            len(frame) == graphs.spectral_frame_size(a) == len(np.unique(frame, axis=0))
        )


def test_a_refined_frame_has_at_least_the_automorphisms():
    a = PAIRS["hexagon, triangles"][1]
    matcher = nx.isomorphism.GraphMatcher(*[nx.from_numpy_array(a)] * 2)
    assert len(graphs.refined_frame(a)) >= len(list(matcher.isomorphisms_iter())) == 72


def test_a_frame_that_cannot_be_listed_is_refused():
    with pytest.raises(ValueError, match="use refined_frame"):
        graphs.spectral_frame(PAIRS["Shrikhande, rook"][0])
