"""Graphs as adjacency matrices: colour refinement, frames, and pairs that test them.

Colour refinement (the one-dimensional Weisfeiler-Leman test) gives nodes colours until
they tell apart no more: message-passing networks see no more than these colours (Xu et
al., "How Powerful are Graph Neural Networks?", ICLR 2019, arXiv 1810.00826). A frame is
a set of orderings of the nodes that goes with the graph when its nodes are relabelled
(Puny et al., ICLR 2022, arXiv 2110.03336); the mean of any function over the reordered
adjacency matrices is therefore invariant.
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

    In a round, a node's next colour is the rank of its colour and of the number of its
    neighbours of each colour (the one-dimensional Weisfeiler-Leman test). Rounds end
    when no further nodes get different colours.
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

    It does where some stable colour has more nodes in one graph than in the other: the
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

    They are found by colour refinement: where a colour is shared, each node of the
        smallest such class is marked in turn, and colours are refined again. The choice
        is ours; it is the tree of canonical labelling (McKay and Piperno, arXiv
        1301.1493) without pruning, so that F is at least the number of automorphisms.
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
    """Return the nodes in classes of equal lengths in the eigenspaces of the Laplacian.

    It is the sorting of Puny et al. (arXiv 2110.03336), section 2.2: node i has for
    each eigenspace, in ascending order of its eigenvalue, the length of the projection
    of e_i onto it. Nodes that agree in all, to six decimals, are one class.
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

    A frame is a set of orderings that goes with the graph when its nodes are
    relabelled; here it is all orderings within `spectral_classes`, section 2.2 of the
    paper. Raises ValueError where there are too many to list, as in graphs whose nodes
    are all alike: they would have to be sampled, which is no longer exact.
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

    orders: (F, n); place i of a reordered graph holds node orders[f, i].
    """
    return adjacency[orders[:, :, None], orders[:, None, :]]


# --- graphs ---------------------------------------------------------------------------


def from_edges(n: int, edges) -> np.ndarray:
    """Return the adjacency matrix (n, n) of the undirected graph with these edges.

    edges: pairs of node numbers below n. Entries are integers, 0 or 1.
    """
    a = np.zeros((n, n), int)
    for i, j in edges:
        a[i, j] = a[j, i] = 1
    return a


def cycle(n: int) -> np.ndarray:
    """Return the adjacency matrix of the cycle of n nodes."""
    return from_edges(n, [(i, (i + 1) % n) for i in range(n)])


def disjoint(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the adjacency matrix of two graphs side by side, without a link."""
    zero = np.zeros((len(a), len(b)), int)
    return np.block([[a, zero], [zero.T, b]])


def prism() -> np.ndarray:
    """Return the graph of two triangles with corresponding corners joined: 6 nodes."""
    return disjoint(cycle(3), cycle(3)) + np.eye(6, dtype=int)[[3, 4, 5, 0, 1, 2]]


def two_rings(n: int, *, joined: int) -> np.ndarray:
    """Return the graph of two cycles of n nodes that share an edge, or have a link.

    joined: 2 for a shared edge (two shared nodes), 1 for a link. With n = 6 and 2 it is
        the skeleton of decalin, with n = 5 and 1 of bicyclopentyl: both have 10 nodes
        and 11 edges. An adjacency matrix.
    """
    if joined == 1:
        a = disjoint(cycle(n), cycle(n))
        a[0, n] = a[n, 0] = 1
        return a
    outer = cycle(2 * n - 2)
    outer[0, n - 1] = outer[n - 1, 0] = 1
    return outer


def on_torus(steps, side: int = 4) -> np.ndarray:
    """Return the Cayley graph on pairs of integers modulo `side` with the given steps.

    Two pairs are joined where they differ by a step, itself a pair, or by its inverse.
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
    """Return named pairs of graphs that agree in nodes and edges, but differ.

    No pair is isomorphic. Whether colour refinement tells one apart is for `told_apart`
    to say. Graphs are adjacency matrices.
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
