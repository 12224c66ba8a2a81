"""Graphs as adjacency matrices: colour refinement, frames, and pairs that test them.

Colour refinement (the one-dimensional Weisfeiler-Leman test) refines a colouring of the
nodes until it is stable: message-passing networks cannot distinguish more than these
colours do (Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, arXiv
1810.00826). A frame is a set of orderings of the nodes that is relabelled together with
the graph (Puny et al., ICLR 2022, arXiv 2110.03336); the mean of any function over the
reordered adjacency matrices is therefore invariant.
"""

from collections.abc import Iterator
from itertools import permutations, product
from math import factorial, prod

import numpy as np

LARGEST = 50_000  # orderings that a frame may list
SAME = 1e-8  # eigenvalues closer than this are one eigenspace
DECIMALS = 6  # to which rows of eigenvectors are compared


# --- colour refinement ----------------------------------------------------------------


def refine(adjacency: np.ndarray, colours: np.ndarray | None = None) -> np.ndarray:
    """Return the stable colours (n,) of a graph's nodes, equal in isomorphic graphs.

    adjacency: (n, n), symmetric, zeros and ones.
    colours: (n,), integers to start from; all equal by default.

    In each round, a node's new colour is the rank of the pair of its colour and the
    numbers of its neighbours of each colour (the one-dimensional Weisfeiler-Leman
    test). The rounds end when the number of different colours no longer grows.
    """
    colours = np.zeros(len(adjacency), int) if colours is None else colours
    colours = np.unique(colours, return_inverse=True)[1]
    while True:
        seen = adjacency @ np.eye(colours.max() + 1, dtype=int)[colours]
        signs = np.column_stack([colours, seen])
        finer = np.unique(signs, axis=0, return_inverse=True)[1].reshape(-1)
        if finer.max() == colours.max():
            return finer
        colours = finer


def told_apart(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether colour refinement distinguishes two graphs.

    a, b: adjacency matrices (n, n).

    It does if some stable colour has more nodes in one graph than in the other: the
    one-dimensional Weisfeiler-Leman test.
    """
    colours = refine(disjoint(a, b))
    counts = [
        np.bincount(c, minlength=len(colours)) for c in np.split(colours, [len(a)])
    ]
    return not np.array_equal(*counts)


# --- frames ---------------------------------------------------------------------------


def refined_frame(adjacency: np.ndarray) -> np.ndarray:
    """Return node orderings (F, n) under which isomorphic graphs have equal matrices.

    adjacency: (n, n), symmetric, zeros and ones.

    The orderings are found by colour refinement. While nodes share a colour, each node
    of the smallest such class is marked in turn, and the colours are refined again.
    This choice is ours; it is the tree of canonical labelling (McKay and Piperno, arXiv
    1301.1493) without pruning, so F is at least the number of automorphisms.
    """
    return np.array(list(_leaves(adjacency, np.zeros(len(adjacency), int))))


def _leaves(adjacency, colours) -> Iterator[np.ndarray]:
    colours = refine(adjacency, colours)
    sizes = np.bincount(colours)
    if sizes.max() == 1:
        yield np.argsort(colours)
        return
    smallest = np.argmin(np.where(sizes > 1, sizes, len(colours) + 1))
    for node in np.flatnonzero(colours == smallest):
        marked = 2 * colours
        marked[node] += 1
        yield from _leaves(adjacency, marked)


def spectral_classes(adjacency: np.ndarray) -> list[np.ndarray]:
    """Return the nodes in classes that the spectrum of the graph Laplacian cannot
    separate.

    adjacency: (n, n), symmetric, zeros and ones.

    For each eigenspace of the Laplacian, in ascending order of eigenvalue, node i has
    the length of the projection of the basis vector e_i onto it. Nodes that agree in
    all these lengths, to six decimals, are one class. Classes are sorted as in Puny et
    al. (arXiv 2110.03336), section 2.2.
    """
    laplacian = np.diag(adjacency.sum(1)) - adjacency
    sizes, vectors = np.linalg.eigh(laplacian.astype(float))
    space = np.cumsum(np.diff(sizes, prepend=sizes[0]) > SAME)
    square = vectors**2 @ np.eye(space[-1] + 1)[space]  # (n, eigenspaces)
    rows = np.round(np.sqrt(square), DECIMALS)
    which = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(which == c) for c in range(which.max() + 1)]


def spectral_frame_size(adjacency: np.ndarray) -> int:
    """Return the number of orderings in the spectral frame of a graph.

    The frame is that of Puny et al. (arXiv 2110.03336), section 2.2. The number is the
    product of the factorials of the sizes of `spectral_classes`.
    """
    return prod(factorial(len(c)) for c in spectral_classes(adjacency))


def spectral_frame(adjacency: np.ndarray) -> np.ndarray:
    """Return the node orderings (F, n) of the frame of Puny et al. (arXiv 2110.03336).

    A frame is a set of orderings that is relabelled together with the graph; this one
    has all orderings within `spectral_classes`, section 2.2 of the paper. Raises
    ValueError if there are too many to list, as for graphs whose nodes are all alike;
    they would have to be sampled, which is no longer exact.
    """
    if (size := spectral_frame_size(adjacency)) > LARGEST:
        raise ValueError(
            f"the spectral frame has {size:.3g} orderings, more than {LARGEST}, and is "
            "not listed: use refined_frame"
        )
    orders = product(*(permutations(c) for c in spectral_classes(adjacency)))
    return np.array([np.concatenate(o) for o in orders])


def reordered(adjacency: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return the adjacency matrix under each of F orderings of its nodes: (F, n, n).

    orders: (F, n); node i of reordered graph f is node orders[f, i] of the given one.
    """
    return adjacency[orders[:, :, None], orders[:, None, :]]


# --- graphs ---------------------------------------------------------------------------


def from_edges(n: int, edges) -> np.ndarray:
    """Return the adjacency matrix (n, n) of the undirected graph with these edges.

    edges: pairs of node numbers from 0 to n - 1. Entries of the matrix are integers, 0
        or 1.
    """
    a = np.zeros((n, n), int)
    for i, j in edges:
        a[i, j] = a[j, i] = 1
    return a


def cycle(n: int) -> np.ndarray:
    """Return the adjacency matrix of the cycle of n nodes."""
    return from_edges(n, [(i, (i + 1) % n) for i in range(n)])


def disjoint(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the adjacency matrix of two graphs side by side, with no edge between
    them.

    a, b: their adjacency matrices.
    """
    zero = np.zeros((len(a), len(b)), int)
    return np.block([[a, zero], [zero.T, b]])


def prism() -> np.ndarray:
    """Return the adjacency matrix of the triangular prism, with 6 nodes.

    It has two triangles with corresponding corners joined.
    """
    return disjoint(cycle(3), cycle(3)) + np.eye(6, dtype=int)[[3, 4, 5, 0, 1, 2]]


def two_rings(n: int, *, joined: int) -> np.ndarray:
    """Return the adjacency matrix of two cycles of n nodes that are joined.

    joined: 2 if the cycles share an edge, and so two nodes; 1 if an edge joins them.
        With n = 6 and 2 it is the skeleton of decalin, with n = 5 and 1 of
        bicyclopentyl: both have 10 nodes and 11 edges.
    """
    if joined == 1:
        a = disjoint(cycle(n), cycle(n))
        a[0, n] = a[n, 0] = 1
        return a
    outer = cycle(2 * n - 2)
    outer[0, n - 1] = outer[n - 1, 0] = 1
    return outer


def on_torus(steps, side: int = 4) -> np.ndarray:
    """Return the adjacency matrix of a Cayley graph on pairs of integers modulo `side`.

    steps: pairs of integers. Two nodes are joined if they differ by a step or by its
        inverse.

    The steps (1, 0), (0, 1), (1, 1) on 4 x 4 give the Shrikhande graph, and (1, 0), (2,
    0), (0, 1), (0, 2) the rook's graph.
    """
    nodes = list(product(range(side), repeat=2))
    number = {node: i for i, node in enumerate(nodes)}
    edges = (
        (i, number[(x + dx) % side, (y + dy) % side])
        for (x, y), i in number.items()
        for dx, dy in steps
    )
    return from_edges(side**2, edges)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return named pairs of graphs, as adjacency matrices.

    The graphs of a pair have equal numbers of nodes and edges but are not isomorphic.
    Whether colour refinement distinguishes them is what `told_apart` computes.
    """
    return {
        "path, star": (
            from_edges(4, [(0, 1), (1, 2), (2, 3)]),
            from_edges(4, [(0, 1), (0, 2), (0, 3)]),
        ),
        "hexagon, triangles": (cycle(6), disjoint(cycle(3), cycle(3))),
        "prism, K33": (
            prism(),
            from_edges(6, product((0, 1, 2), (3, 4, 5))),
        ),
        "decalin, bicyclopentyl": (two_rings(6, joined=2), two_rings(5, joined=1)),
        "Shrikhande, rook": (
            on_torus([(1, 0), (0, 1), (1, 1)]),
            on_torus([(1, 0), (2, 0), (0, 1), (0, 2)]),
        ),
    }
