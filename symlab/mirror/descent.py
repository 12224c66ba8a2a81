"""Reorder the hidden units of a model towards another model by coordinate descent.

If all other sets of units are held fixed, the squared distance of the parameters is
linear in the permutation of one set, so that the best permutation is a linear
assignment (algorithm 1 of Git Re-Basin, arXiv 2209.04836); the best rotation is a polar
factor (orthogonal Procrustes problem).
"""

from dataclasses import replace

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from symlab.mirror.units import Element, Index, Part

LEAST = 1e-12  # a smaller relative gain is rounding
GENERATORS = 6  # of so many sign changes that share parts all products are tried

Step = tuple[Index, Element]
Signs = list[tuple[list[int], Tensor]]
Values = dict[tuple[str, int, int], Tensor]


class Descent:
    """Permutes and rotates the hidden units of a model b until its weights are near
    a's.

    It works on float64 copies of b's tensors, one index (a set of hidden units) at a
    time, and lowers the squared distance between the parameters of a and b.

    a, b: models of one architecture. found: the certified indices of b.
    rotations: whether rotations are solved for.
    seed: seed of the random order in which indices are visited.

    settled: {number of an index whose order is fixed: (k,), the units that may still be
        exchanged}.
    steps: the (index, group element) pairs that were applied so far.
    """

    def __init__(self, a, b, found: list[Index], rotations: bool, seed: int):
        self.draws = torch.Generator().manual_seed(seed)
        self.trainable = [n for n, p in b.named_parameters() if p.requires_grad]
        self.b = {n: t.cpu().double().clone() for n, t in floating(b).items()}
        self.aim(a)
        self.found, self.rotations = found, rotations
        self.settled: dict[int, Tensor] = {}
        self.steps: list[Step] = []

    def aim(self, a: nn.Module) -> None:
        """Replace the target model a; b keeps its present order of units."""
        self.a = {n: t.cpu().double() for n, t in floating(a).items()}

    def run(self) -> None:
        """Reorder or rotate the units of b, one index at a time, until b comes no
        nearer to a.

        An index is a set of hidden units. It is tried again only after another index
        that shares a tensor with it was changed.
        """
        stale = set(range(len(self.found)))
        while stale:
            for i in torch.randperm(len(self.found), generator=self.draws).tolist():
                if i not in stale:
                    continue
                stale.discard(i)
                if self._improve(i):
                    names = {*self.found[i].names}
                    near = {j for j, f in enumerate(self.found) if names & {*f.names}}
                    stale |= near if _twice(self.found[i]) else near - {i}

    def _improve(self, number: int) -> bool:
        """Move one index, unless that does not shorten the distance."""
        index = self.found[number]
        names = [n for n in index.names if n in self.trainable]
        kept = {n: self.b[n].clone() for n in index.names}
        old = self._squares(names)
        size = sum(float(self.a[n].norm() * self.b[n].norm()) for n in names)
        steps = [self._act(index, self._best(index, self.settled.get(number)))]
        if index.heads and self.rotations:  # what a head computes stays the same
            inner = [f for f in self.found if f.kind == "rotation"]
            inner = [f for f in inner if {*f.names} <= {*index.names}]
            steps += [self._act(f, self._best(f)) for f in inner]
        if self._squares(names) < old - LEAST * size:
            self.steps += steps
            return True
        self.b.update(kept)
        return False

    def _squares(self, names: list[str]) -> float:
        return sum(float((self.a[n] - self.b[n]).square().sum()) for n in names)

    def _act(self, index: Index, g: Element) -> Step:
        index.act_(g, self.b)
        return index, g

    def _best(self, index: Index, free: Tensor | None = None) -> Element:
        """The element of one index that helps most where the others stay.

        free: (k,) units that may be exchanged, where the other ones may not.
        """
        if index.kind == "rotation" and self.rotations:
            return Element(matrix=self._rotation(index))
        signs = _signs(index)
        paired = index.pairs if index.heads and self.rotations else ()
        if free is None:
            order = _assigned(self._scores(index, signs, paired))
        else:
            signs = [(ps, e[_keeps(index, ps, e)]) for ps, e in signs]
            order = torch.arange(index.units)
            if len(free) > 1:
                scores = self._scores(index, signs, paired)
                order[free] = free[_assigned(scores[free][:, free])]
        return Element(order=order, factors=self._factors(index, signs, order))

    def _rotation(self, index: Index) -> Tensor:
        """(m, m) orthogonal, by Procrustes: the polar factor of sum_p A_p B_p^T."""
        m = sum(self._gain(p) for p in index.parts)
        u = index.subspace
        if u is None:
            return _polar(m)
        turned = u @ _polar(u.T @ m @ u) @ u.T
        return turned + torch.eye(len(u)).to(u) - u @ u.T

    def _gain(self, part: Part) -> Tensor:
        """(m, m): products of what unit i owns in a and unit j in b; 0 for buffers."""
        if not part.trainable:
            return torch.zeros(len(part.places), len(part.places)).double()
        return part.rows(self.a[part.name]) @ part.rows(self.b[part.name]).T

    def _scores(self, index: Index, signs: Signs, pairs) -> Tensor:
        """(m, m): what it is worth to have unit j of b at i, with the best signs."""
        apart = {p for ps, _ in signs for p in ps}
        apart |= {p for _, plus, minus in pairs for p in (*plus, *minus)}
        rest = [p for i, p in enumerate(index.parts) if i not in apart]
        m = index.units
        scores = sum((self._gain(p) for p in rest), torch.zeros(m, m).double())
        for numbers, elements in signs:
            gains = [self._gain(index.parts[p]) for p in numbers]
            best = torch.full((m, m), -torch.inf).double()
            for e in elements:
                some = sum(x * g for x, g in zip(e.tolist(), gains, strict=True))
                best = torch.maximum(best, some)
            scores += best
        for width, plus, minus in pairs:
            parts = [index.parts[p] for p in (*plus, *minus)]
            scores += self._products(parts, width)
        return scores

    def _products(self, parts: list[Part], width: int) -> Tensor:
        """(heads, heads): the same, where each head is first rotated as is best."""
        total = torch.zeros(())
        for part in parts:
            x, y = (part.rows(t[part.name]) for t in (self.a, self.b))
            x, y = (z.view(len(z), width, -1) for z in (x, y))
            total = total + torch.einsum("iwr,jvr->ijwv", x, y)
        return torch.linalg.svdvals(total).sum(-1)

    def _factors(self, index: Index, signs: Signs, order: Tensor) -> dict[int, Tensor]:
        """The best signs (m,) of each part, once the order is chosen."""
        factors = {}
        for numbers, elements in signs:
            parts = [index.parts[p] for p in numbers]
            moved = [replace(p, places=p.places[order]) for p in parts]
            gains = [
                (p.rows(self.a[p.name]) * q.rows(self.b[p.name])).sum(1) * p.trainable
                for p, q in zip(parts, moved, strict=True)
            ]
            chosen = elements[(elements @ torch.stack(gains)).argmax(0)]  # (m, parts)
            factors |= dict(zip(numbers, chosen.T, strict=True))
        return factors

    def follow(self, ours: Values, theirs: Values) -> None:
        """Order the units of b so that their values correlate most with those of a's
        units.

        ours, theirs: the values of a's and of b's units on one batch, {key of `owned`:
            values}.

        The order is then fixed: later steps exchange only units that are silent in both
        models. If the sign of a unit's value is free, its correlation counts by its
        absolute value. Rotations and attention heads are left out.
        """
        for number, index in enumerate(self.found):
            keys = owned(index.parts[0])
            held = {*keys} <= {*ours} & {*theirs}
            if index.kind == "rotation" or index.heads or not held:
                continue
            x, y = (torch.stack([v[k] for k in keys], 1) for v in (ours, theirs))
            r, flip = _correlation(x, y), _flips_value(index)
            order = _assigned(r if flip is None else r.abs())
            signs = torch.where(r.gather(1, order[:, None])[:, 0] < 0, -1.0, 1.0)
            factors = {} if flip is None else dict.fromkeys(flip, signs.double())
            self.steps.append(self._act(index, Element(order=order, factors=factors)))
            silent = (r == 0).all(1) & (r == 0).all(0)[order]
            self.settled[number] = silent.nonzero()[:, 0]


def owned(part: Part) -> list[tuple[str, int, int]]:
    """Return a key (name, axis, first position) for each hidden unit of a part.

    part: one axis of a named tensor, along which each unit owns some positions.
    """
    return [(part.name, part.axis, int(place)) for place in part.places[:, 0]]


# --- signs ---------------------------------------------------------------------------


def _signs(index: Index) -> Signs:
    """Sign changes, as sets of parts without a common one: numbers, (n, parts) signs.

    Row 0 changes nothing.
    """
    groups: list[list[tuple[int, ...]]] = []
    for pattern in index.signs:
        met = [g for g in groups if any({*pattern} & {*q} for q in g)]
        rest = [g for g in groups if g not in met]
        groups = [*rest, [q for g in met for q in g] + [pattern]]
    found = []
    for patterns in groups:
        numbers = sorted({p for q in patterns[:GENERATORS] for p in q})
        rows = torch.ones(1, len(numbers), dtype=torch.float64)
        for q in patterns[:GENERATORS]:
            flip = torch.tensor([-1.0 if p in q else 1.0 for p in numbers])
            rows = torch.cat([rows, rows * flip])
        found.append((numbers, rows))
    return found


def _flips_value(index: Index) -> tuple[int, ...] | None:
    """Parts that change sign together with the value that is read, None without."""
    reads = {p for p, part in enumerate(index.parts) if part.reads}
    return next((s for s in index.signs if reads and reads <= {*s}), None)


def _keeps(index: Index, numbers: list[int], elements: Tensor) -> Tensor:
    """(n,) which of the sign changes leave the sign of what is read."""
    reads = [i for i, p in enumerate(numbers) if index.parts[p].reads]
    return (elements[:, reads] > 0).all(1)


# --- small pieces -------------------------------------------------------------------


def floating(model: nn.Module) -> dict[str, Tensor]:
    """Return all floating-point parameters and buffers by name, each once."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {n: t.detach() for n, t in named if t.is_floating_point()}


def _twice(index: Index) -> bool:
    """Whether it stands on two axes of one tensor: then one step is not the best."""
    return len({(p.name, p.axis) for p in index.parts}) > len(index.names)


def _assigned(scores: Tensor) -> Tensor:
    """(m,) the order with the largest sum of scores[i, order[i]]."""
    return torch.from_numpy(linear_sum_assignment(scores.cpu().numpy(), True)[1])


def _polar(m: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(m)
    return u @ v


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """(m, m) correlations of columns (samples, m), 0 for constant ones."""
    x, y = (z.double() - z.double().mean(0) for z in (x, y))
    x, y = (z / z.norm(dim=0).clamp_min(1e-300) for z in (x, y))
    return x.T @ y
