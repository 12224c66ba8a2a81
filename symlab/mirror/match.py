"""Bring one model nearest to another without changing its function.

    found = match(a, b, loss, batch)
    b = found.apply(b)

Two trained models of one architecture differ in the order of their hidden units, which
does not affect their functions. Ainsworth, Hayase and Srinivasa (Git Re-Basin, ICLR
2023, arXiv 2209.04836) remove this difference. They specify by hand, for each
architecture, which tensor axes share an order; here `indices` finds and certifies
this. Activation matching is from Li et al. (arXiv 1511.07543), the straight-through
estimator from Bengio et al. (arXiv 1308.3432), as used in algorithm 3 of Git Re-Basin.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from symlab.mirror.descent import Descent, Step, Values, floating, owned
from symlab.mirror.indices import families, indices
from symlab.mirror.private import private_copy
from symlab.mirror.units import Index

WAYS = ("weights", "activations", "straight-through")

Loss = Callable[[nn.Module, object], Tensor]


@dataclass(frozen=True)
class Match:
    """The permutations, sign changes and rotations that bring one model near another.

    steps: pairs of an index (a set of hidden units) and the group element that acts on
        it, in the order in which they are applied.
    before, after: the distance to the other model, Euclidean over all trainable
        parameters.
    left: {index: reason} for the indices whose symmetry is unknown; they are not moved.
    """

    steps: tuple[Step, ...]
    before: float
    after: float
    left: dict[str, str]

    @property
    def distance(self) -> tuple[float, float]:
        """The distances of the parameters to the other model, (before, after) the
        match.
        """
        return self.before, self.after

    @property
    def orders(self) -> dict[str, Tensor]:
        """The new order (m,) of each permuted set of m hidden units.

        The keys are the tensor axes of the units as text, such as 'a.weight:0'. Unit i
        of the result is unit order[i] of the given model. Units inside attention heads
        are counted after the heads were exchanged.
        """
        found: dict[str, Tensor] = {}
        for index, g in self.steps:
            if g.order is not None:
                name = ("heads: " if index.heads else "") + index.text()
                found[name] = found.get(name, torch.arange(index.units))[g.order]
        return found

    def apply(self, model: nn.Module) -> nn.Module:
        """Return a copy of a model to which the match's group elements have been
        applied.
        """
        moved = copy.deepcopy(model)
        names = {n for index, _ in self.steps for n in index.names}
        tensors = {n: t for n, t in floating(moved).items() if n in names}
        acted = {n: t.cpu().double() for n, t in tensors.items()}  # rounded once
        for index, g in self.steps:
            index.act_(g, acted)
        for n, t in tensors.items():
            t.copy_(acted[n])
        return moved


def match(
    a: nn.Module,
    b: nn.Module,
    loss: Loss,
    batch,
    by: str = "weights",
    rotations: bool = True,
    seed: int = 0,
    specification: list[Index] | None = None,
    steps: int = 100,
    lr: float = 0.01,
    start: str = "a",
) -> Match:
    """Return the symmetry of b under `loss(model, batch)` that brings it nearest to a.

    Exchangeable units are reordered, with the sign changes that are certified;
    attention heads are exchanged as wholes; batch norm's statistics are reordered with
    their units.

    by: 'weights' minimises the distance of the parameters over one set of units after
        another, in random order, until no set improves it: a local optimum.
        'activations' pairs units whose values on the batch correlate most. Signs,
        heads, rotations and units that are silent on the batch then follow the weights.
        'straight-through' minimises the loss on the batch at the mean of a and the
        matched b: a latent model, to which b is matched by weights, follows the
        gradient at that mean, for `steps` steps of Adam with learning rate `lr`.
    rotations: whether rotations are solved for (orthogonal Procrustes problem);
        otherwise the units that could be rotated are only permuted.
    seed: seed of the order in which sets of units are visited.
    specification: the result of `indices` for b, or for a model with the same
        architecture and constants; by default it is computed.
    start: where the latent model of 'straight-through' starts: at 'a', as in Git
        Re-Basin, so that the first match is that of 'weights', or at 'b', so that the
        first match changes nothing.

    Positive rescalings are left as they are, and so are units whose symmetry is
    unknown: see `Match.left`. Raises ValueError if the models have different
    architectures or an option is not one of these, and RuntimeError if outputs on the
    batch would change.
    """
    if by not in WAYS:
        raise ValueError(f"by must be one of {', '.join(WAYS)}, not {by!r}")
    if start not in ("a", "b"):
        raise ValueError(f"start must be 'a' or 'b', not {start!r}")
    assert_alike(a, b)
    found = indices(b, loss, batch) if specification is None else specification
    moving = [i for i in found if _moves(i, rotations)]
    descent = Descent(a, b, moving, rotations, seed)
    if by == "activations":
        descent.follow(_values(a, loss, batch), _values(b, loss, batch))
    if by != "straight-through" or start == "a":
        descent.run()
    if by == "straight-through":
        latent = copy.deepcopy(a if start == "a" else b)
        _straight_through(descent, a, latent, loss, batch, steps, lr)
    left = {i.text(): i.unknown for i in found if i.unknown}
    result = Match(tuple(descent.steps), distance(a, b), float("nan"), left)
    moved = result.apply(b)
    _assert_same_function(b, moved, loss, batch)
    return replace(result, after=distance(a, moved))


def _straight_through(
    descent, a, latent, loss: Loss, batch, steps: int, lr: float
) -> None:
    """Follow the loss half way between a and b, and go back to where it was least.

    The gradient with respect to the matched b is given to the latent model, as if the
    assignment were the identity.
    """
    middle = copy.deepcopy(a)
    moved = [p for p in latent.parameters() if p.requires_grad]
    params = [p for p in middle.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(moved, lr)
    best, kept = float("inf"), []
    for _ in range(steps + 1):
        first = floating(a)
        for n, t in floating(middle).items():
            t.copy_((first[n] + descent.b[n].to(t)) / 2)
        value = loss(middle, batch)
        if value.item() < best:
            best, kept = value.item(), list(descent.steps)
        gradient = torch.autograd.grad(value, params, allow_unused=True)
        for p, g in zip(moved, gradient, strict=True):
            p.grad = g
        optimizer.step()
        descent.aim(latent)
        descent.run()
    descent.steps[:] = kept


def distance(a: nn.Module, b: nn.Module) -> float:
    """Return the Euclidean distance between the trainable parameters of two models."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    with torch.no_grad():
        parts = [
            float((x.double().cpu() - y.double().cpu()).square().sum())
            for x, y in pairs
            if y.requires_grad
        ]
    return sum(parts) ** 0.5


def _values(model: nn.Module, loss: Loss, batch) -> Values:
    """The values (samples,) of units where they are read, by what they own first."""
    private, batch, _ = private_copy(model, loss, batch)
    found = {}
    for family in families(private, loss, batch):
        if family.activations is not None:
            keys = owned(family.parts[0])
            found |= dict(zip(keys, family.activations.T, strict=True))
    return found


# --- small pieces --------------------------------------------------------------------


def _moves(index: Index, rotations: bool) -> bool:
    if index.kind == "rotation" and not rotations and index.subspace is not None:
        return False  # it holds no exchange of units
    return index.kind in ("permutation", "rotation") and not index.unknown


def assert_alike(a: nn.Module, b: nn.Module) -> None:
    """Raise ValueError if the parameters or buffers of two models differ in name or
    shape.
    """
    ours, theirs = ({n: tuple(t.shape) for n, t in floating(m).items()} for m in (a, b))
    for n in {**ours, **theirs}:
        if ours.get(n) != theirs.get(n):
            has = [f"of shape {s[n]}" if n in s else "absent" for s in (ours, theirs)]
            raise ValueError(
                f"only equal architectures can be matched: {n!r} is {has[0]} in a and "
                f"{has[1]} in b"
            )


@torch.no_grad()
def _outputs(model: nn.Module, loss: Loss, batch) -> list[Tensor]:
    """The outputs of all calls of the model, and the loss."""
    seen: list = []
    model = copy.deepcopy(model)
    model.register_forward_hook(lambda _, __, out: seen.append(out))
    leaves = torch.utils._pytree.tree_leaves([loss(model, batch), seen])
    return [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()]


def _assert_same_function(b, moved, loss, batch) -> None:
    for x, y in zip(*(_outputs(m, loss, batch) for m in (b, moved)), strict=True):
        rounding = torch.finfo(x.dtype).eps ** 0.5 * x.abs().max()
        if not bool((x - y).abs().max() <= rounding):
            raise RuntimeError(
                "the match would change the model's outputs on the batch: please "
                "report the model, whose symmetry was certified wrongly"
            )
