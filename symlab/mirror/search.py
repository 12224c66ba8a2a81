"""Which reductions reproduce a model's outputs: try, compare, keep or undo.

Reductions are tried together; where the outputs change, each half of them is tried by
itself. All comparisons are made in float64, on the smaller module itself.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from symlab.mirror.heads import Block, blocks, head_moves, width_moves
from symlab.mirror.indices import UNSURE, indices
from symlab.mirror.moves import (
    ZERO,
    Move,
    Site,
    canonical,
    cut_move,
    distances,
    folding,
    merging,
    no_bias,
    rank,
    site,
    unit_move,
    unit_moves,
)
from symlab.mirror.reading import readings
from symlab.mirror.surgery import (
    HEADS,
    WIDTHS,
    Draft,
    Edits,
    Misfit,
    ancestor,
    copied,
    smaller,
)
from symlab.mirror.units import Index

EXACT = 1e-6  # relative change of the outputs that counts as none
ROUNDS = 5  # of measuring all units where changes are tolerated
OUTPUTS = "its units are outputs of the model"
INPUTS = "its units are inputs of the model"


class Search:
    """Proposes, verifies and keeps or undoes reductions of one model.

    draft: what is kept so far. counts: {index: {kind: units}}. notes: why others stay.
    """

    def __init__(self, model: nn.Module, loss, batch, silent: bool):
        free = copied(model).requires_grad_(True)  # frozen tensors are cut, too
        self.found = indices(free, loss, batch)
        self.model, self.loss, self.silent = model, loss, silent
        self.wide, self.batch = double(model, loss, batch)
        self.reference = outputs(self.wide, loss, self.batch)
        self.limit = _limit(model)
        met = readings(self.wide, loss, self.batch)
        both = (self.batch, noisy(self.batch))
        other = [
            readings(shuffled(self.wide, i), loss, *both, tilted=True) for i in range(2)
        ]
        self.sites: dict[int, Site] = {}
        for n, index in enumerate(self.found):
            if not index.heads and index.parts[0].shape and _open(index):
                self.sites[n] = site(n, index, model, met, other)
        self.blocks = blocks(model, self.sites, self.found)
        self.open_heads = {b.number for b in self.blocks}
        self.draft = Draft(dict(model.named_parameters()) | dict(model.named_buffers()))
        self.counts: dict[int, dict[str, int]] = {}
        self.notes: dict[int, dict[str, int]] = {}  # reason: units
        self.misfit: dict[int, str] = {}
        self.undone: set[tuple] = set()
        self.eager: set[int] = (
            set()
        )  # all numbers that equal their width change with it

    # --- proposals ---

    def exact(self) -> None:
        """Reductions that leave the function as it is, until there are no more."""
        while self.keep(self.proposals(), self.limit):
            pass
        for block in self.blocks:  # where queries, keys and values need one width
            why = self.misfit.pop(block.number, "")
            moves = width_moves(block, self.sites, self.draft, True) if why else []
            if self.keep(moves, self.limit):
                self.notes.pop(block.number, None)
            elif why:
                self.misfit[block.number] = why
        while self.keep(self.proposals(), self.limit):
            pass

    def proposals(self) -> list[Move]:
        """Moves for all indices at the current weights."""
        heads = {i for b in self.blocks for i in b.members}
        moves: list[Move] = []
        for n, s in self.sites.items():
            if n not in heads and n not in self.misfit:
                moves += self._of_index(s)
        for b in self.blocks:
            if b.number not in self.misfit:
                first = self._untried(head_moves(b, self.sites, self.draft))
                moves += first or width_moves(b, self.sites, self.draft, False)
        return self._in_step(self._untried(moves))

    def _untried(self, moves: list[Move]) -> list[Move]:
        return [m for m in moves if m.key not in self.undone]

    def _of_index(self, s: Site) -> list[Move]:
        count = int(self.draft.alive(s.index).sum())
        if count < 2 or not (s.writes and (s.reads or s.both)):
            return []
        if s.index.kind == "rotation":
            width = max(rank(s.index, self.draft), 1)
            moves = [cut_move(s, width, count)] if width < count else []
            s.bound = s.bound or ("constants fix it" if _fixed(s.index) else "")
        else:
            moves = unit_moves(s, self.draft, self.silent)
        if s.bound and moves:
            self._note(s.number, s.bound, sum(len(m.units) for m in moves))
            return []
        open_ = [m for m in moves if not self._unfolded(s, m)]
        if len(open_) < len(moves):
            why = "their reader has no bias for their constant value"
            self._note(s.number, why, len(moves) - len(open_))
        return open_

    def _unfolded(self, s: Site, m: Move) -> bool:
        folds = m.kind in ("constant", "silent")
        return folds and no_bias(s, m.units[0], self.draft)

    def _note(self, number: int, why: str, units: int) -> None:
        self.notes.setdefault(number, {})[why] = units

    def _in_step(self, moves: list[Move]) -> list[Move]:
        """Groups of one convolution lose equally many units: one of each at a time."""
        free, tied = [], {}
        for m in moves:
            s = self.sites.get(m.owner)
            key = s and _grouped(self.model, s.index)
            if key:
                tied.setdefault(key, {}).setdefault(m.owner, []).append(m)
            else:
                free.append(m)
        for key, by_owner in tied.items():
            of_layer = [n for n, s in self.sites.items()
                        if _grouped(self.model, s.index) == key]  # fmt: skip
            least = min(len(by_owner.get(n, ())) for n in of_layer)
            for n, some in by_owner.items():
                if len(some) > least:
                    why = "all groups of a convolution keep the same number of units"
                    self._note(n, why, len(some) - least)
            free += [_joint(ms) for ms in zip(*by_owner.values(), strict=False)][:least]
        return free

    # --- verification ---

    def keep(self, moves: list[Move], limit: float) -> bool:
        """Keep those moves that together change the outputs by at most `limit`."""
        moves = [m for m in moves if m.owner not in self.misfit]
        if not moves:
            return False
        if len(moves) == 1:
            return self._keep_one(moves[0], limit)
        draft, done = self.carried_out(moves)
        if done and self.change(draft)[0] <= limit:
            return self._kept(draft, done)
        half = len(moves) // 2
        first = self.keep(moves[:half], limit)
        return self.keep(moves[half:], limit) or first

    def _keep_one(self, move: Move, limit: float) -> bool:
        best, why = float("inf"), ""
        for eager in (self.eager, self.eager | {move.owner}):
            for factor in move.factors:
                draft, done = self.carried_out([move], factor)
                if not done:
                    return False
                change, error = self.change(draft, eager)
                if change <= limit:
                    self.eager = eager
                    return self._kept(draft, done)
                why = why or error
                best = min(best, change)
        self.undone.add(move.key)
        if best == float("inf"):
            self.misfit[move.owner] = why
            self._note(move.owner, why, 0)
        elif limit <= self.limit:
            text = f"undone, as the outputs would change by {best:.0e}"
            self._note(move.owner, text, sum(move.gone.values()))
        return False

    def carried_out(self, moves: list[Move], factor: float = 1.0):
        """A draft with the moves, and those that were possible."""
        draft, done = self.draft.fork(), []
        for m in moves:
            if m.needs:
                index = self.found[m.owner]
                here = draft.alive(index)
                if not bool(here[list(m.needs)].all()) or here.sum() <= len(m.units):
                    continue  # another move took a unit, or it would be the last one
            m.change(draft, factor)
            done.append(m)
        return draft, done

    def _kept(self, draft: Draft, done: list[Move]) -> bool:
        self.draft = draft
        for m in done:
            for n, units in m.gone.items():
                kinds = self.counts.setdefault(n, {})
                kinds[m.kind] = kinds.get(m.kind, 0) + units
        return True

    def build(self, draft: Draft, eager: set[int] | None = None) -> nn.Module:
        """The smaller module of a draft."""
        eager = self.eager if eager is None else eager
        return smaller(self.model, draft, self._edits(draft, eager))

    def change(self, draft: Draft, eager: set[int] | None = None) -> tuple[float, str]:
        """The relative change of the outputs, infinite and why where it cannot run."""
        try:
            new = self.build(draft, eager).to(self.dtype)
            found = outputs(new, self.loss, self.batch)
        except Misfit as error:
            return float("inf"), str(error)
        except Exception as error:  # the model's own code, on tensors it did not expect
            text = " ".join(str(error).split())[:80]
            return float("inf"), f"the model's code fixes this width ({text})"
        return compared(self.reference, found)

    @property
    def dtype(self):
        """Comparisons are in float64 unless the model's code makes float32 itself."""
        first = next(p for p in self.wide.parameters() if p.is_floating_point())
        return torch.float64 if first.dtype == torch.float64 else None

    # --- the module's own numbers ---

    def _edits(self, draft: Draft, eager: set[int]) -> Edits:
        members = {i for b in self.blocks for i in b.members}
        widths, norms, heads = [], [], []
        for n, s in self.sites.items():
            here = int(draft.alive(s.index).sum())
            if n in members or here == s.index.units:
                continue
            norms += [(path, s.index.units, here) for path in s.norms]
            new = _new_widths(s.index.parts, draft)
            paths = _holders(self.model, s.index.names)
            widths += [(path, new, n in eager) for path in paths]
        for b in self.blocks:
            here, width = self._block_size(b, draft)
            if (here, width) != (b.heads.units, b.width):
                new = _new_widths(b.parts(), draft) | {b.width: width}
                heads.append((b.path, new, b.number in eager, b.heads.units, here))
        config = self._config(draft) if widths or heads else ()
        return Edits(tuple(widths), tuple(heads), tuple(norms), config)

    def _block_size(self, b: Block, draft: Draft) -> tuple[int, int]:
        """Heads that are left, and their width."""
        widths = [int(draft.alive(self.found[i]).sum()) for i in b.outputs]
        return int(draft.alive(b.heads).sum()), max(widths)

    def _config(self, draft: Draft) -> tuple[tuple[str, int], ...]:
        """Fields of a Hugging Face configuration that all layers agree on."""
        config = getattr(self.model, "config", None)
        if not hasattr(config, "to_dict"):
            return ()
        members = {i for b in self.blocks for i in b.members}
        new: dict[int, set[int]] = {}
        for n, s in self.sites.items():
            if n not in members:
                here = int(draft.alive(s.index).sum())
                new.setdefault(s.index.units, set()).add(here)
        agreed = {old: min(x) for old, x in new.items() if len(x) == 1}
        fields = {n: v for n, v in config.to_dict().items() if type(v) is int}
        found = {n: agreed.get(v, v) for n, v in fields.items() if WIDTHS.search(n)}
        sizes = [(b, *self._block_size(b, draft)) for b in self.blocks]
        if len({(b.heads.units, b.width, h, w) for b, h, w in sizes}) == 1:
            b, here, width = sizes[0]
            for n, v in fields.items():
                if HEADS.search(n) and v % b.heads.units == 0:
                    found[n] = v // b.heads.units * here
                elif n == "head_dim":
                    found[n] = width
        if getattr(config, "n_inner", 0) is None:  # GPT-2: four times the width
            four = 4 * config.hidden_size
            found["n_inner"] = agreed.get(four, four)
        return tuple((n, v) for n, v in found.items() if v != fields.get(n))

    # --- with a tolerance ---

    def approximate(self, tolerance: float) -> None:
        """Remove and merge units, the least change of the outputs first."""
        for _ in range(ROUNDS):
            moves = self._in_reach(tolerance)
            if not self.keep(moves, tolerance):
                break

    def _in_reach(self, tolerance: float) -> list[Move]:
        """For each unit the move of least change, where that is tolerated; sorted."""
        heads = {i for b in self.blocks for i in b.members}
        best: dict[tuple, Move] = {}
        for n, s in self.sites.items():
            free = n not in heads and n not in self.misfit and s.writes and s.reads
            if (
                not free
                or s.bound
                or s.norms
                or s.both
                or _grouped(self.model, s.index)
            ):
                continue
            for m in self._untried(self._lossy(s)):
                m.loss = self._loss(m)
                key = (n, m.units)
                if m.loss <= tolerance and (key not in best or m.loss < best[key].loss):
                    best[key] = m
        return sorted(best.values(), key=lambda m: m.loss)

    def _lossy(self, s: Site) -> list[Move]:
        live = self.draft.alive(s.index).nonzero()[:, 0].tolist()
        if len(live) < 2:
            return []
        kind = "approximated"
        if s.index.kind == "rotation":
            widths = range(len(live) - 1, 0, -1)
            return [cut_move(s, w, w + 1, kind) for w in widths]
        moves = [unit_move(s, kind, [u], folding(s, u)) for u in live]
        rows = [self.draft.rows(p, slice(None)) for p in s.index.parts]
        factors = canonical(s, rows)
        nearest = distances(s, rows, factors, live).fill_diagonal_(float("inf"))
        for u, other in zip(live, nearest.argmin(1).tolist(), strict=True):
            i = live[other]
            change = merging(s, i, [u], factors)
            moves.append(unit_move(s, kind, [u], change, needs=[i]))
        return moves

    def _loss(self, move: Move) -> float:
        """The change of the outputs by one move alone, at full width."""
        draft, _ = self.carried_out([move])
        named = dict(self.wide.named_parameters()) | dict(self.wide.named_buffers())
        with torch.no_grad():
            for n, t in draft.changed.items():
                named[n].copy_(t)
            found = compared(self.reference, outputs(self.wide, self.loss, self.batch))[
                0
            ]
            for n in draft.changed:
                named[n].copy_(self.draft.tensor(n))
        return found


# --- roles ----------------------------------------------------------------------------


def _open(index: Index) -> bool:
    """Whether something is known of an index; UNSURE ones have their parts at least."""
    known = not index.unknown and index.symmetry != "none"
    return known or index.unknown == UNSURE


def _fixed(index: Index) -> bool:
    return index.subspace is not None


def _grouped(model: nn.Module, index: Index) -> tuple | None:
    """What the indices of the groups of one convolution (or of one stack) share."""
    for p in index.parts:
        owner = model.get_submodule(p.name.rpartition(".")[0])
        groups = getattr(owner, "groups", 1)
        if p.stack > 1 or (type(groups) is int and 1 < groups != owner.in_channels):
            return tuple((q.name, q.axis) for q in index.parts)
    return None


def _joint(moves) -> Move:
    def change(draft: Draft, factor: float) -> None:
        for m in moves:
            m.change(draft, factor)

    gone = {n: units for m in moves for n, units in m.gone.items()}
    return replace(moves[0], change=change, gone=gone)


def _new_widths(parts, draft: Draft) -> dict[int, int]:
    """{old: new} sizes of all axes."""
    new = {}
    for p in parts:
        gone = len(draft.removed.get((p.name, p.axis, p.stack), ())) // p.stack
        new[p.shape[p.axis]] = p.shape[p.axis] - gone
    return new


def _holders(model: nn.Module, names) -> list[str]:
    """Paths of the modules that hold some of the tensors, below what holds all."""
    top = ancestor(model, names)
    found = {top}
    for name in names:
        path = name.rpartition(".")[0]
        while len(path) > len(top):
            found.add(path)
            path = path.rpartition(".")[0]
    return sorted(found)


# --- outputs --------------------------------------------------------------------------


def outputs(model: nn.Module, loss, batch) -> tuple[Tensor, list[Tensor]]:
    """The loss, and all tensors that the model returned while it was computed."""
    calls: list = []
    handle = model.register_forward_hook(lambda m, i, out: calls.append(out))
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            value = loss(model, batch)
    finally:
        handle.remove()
        torch.backends.mha.set_fastpath_enabled(fast)
    return value.detach().clone(), [t.detach().clone() for t in _leaves(calls)]


def _leaves(x) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x] if x.is_floating_point() else []
    if isinstance(x, Mapping):
        x = list(x.values())
    return [t for y in x for t in _leaves(y)] if isinstance(x, list | tuple) else []


def compared(old, new) -> tuple[float, str]:
    """max |new - old| / max |old| over the outputs; of the loss, / max(|old|, 1)."""
    (value, before), (other, after) = old, new
    shapes = [[t.shape for t in side] for side in (before, after)]
    if shapes[0] != shapes[1]:
        return float("inf"), "the outputs would change their shape"
    worst = float((other - value).abs() / value.abs().clamp(min=1))
    for a, b in zip(before, after, strict=True):
        if a.numel():
            scale = a[a.isfinite()].abs().max() if bool(a.isfinite().any()) else 1.0
            difference = torch.where(a == b, 0.0, (a - b).abs())  # -inf of masks
            worst = max(worst, float(difference.max() / max(float(scale), 1e-300)))
    return (worst if worst == worst else float("inf")), ""


def _limit(model: nn.Module) -> float:
    """What rounding the merged weights may change: EXACT, or the spacing at one."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    half = [torch.finfo(k).eps for k in kinds if torch.finfo(k).bits < 32]
    return max([EXACT, *half])


def double(model: nn.Module, loss, batch):
    """A copy in float64 and the batch, where the model allows.

    A batch of equal numbers (zeros) exercises nothing: random ones take its place.
    """
    leaves = torch.utils._pytree.tree_map(_generic, batch)
    cast = torch.utils._pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x,
        leaves,
    )
    try:
        new = copied(model).double()
        with torch.no_grad():
            loss(new, cast)
    except RuntimeError:  # float32 made inside the model
        return copied(model), leaves
    return copied(model).double(), cast


def _generic(x):
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.numel() > 1):
        return x
    if not bool((x == x.reshape(-1)[0]).all()):
        return x
    draws = torch.Generator().manual_seed(0)
    return torch.randn(x.shape, generator=draws).to(x)


def noisy(batch):
    """The batch with noise on its floating-point tensors, so that samples differ."""
    draws = torch.Generator().manual_seed(0)

    def changed(x):
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            return x
        size = x.std() if x.numel() > 1 else 1.0
        return x + size * torch.randn(x.shape, generator=draws).to(x)

    return torch.utils._pytree.tree_map(changed, batch)


def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """A copy whose weights are other ones, except those that are zero.

    A unit whose value is still the same everywhere is constant by its weights.
    """
    new = copied(model)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in new.parameters():
            if p.is_floating_point() and p.numel():
                size = torch.rand(p.shape, generator=draws) + 0.5
                sign = torch.randint(0, 2, p.shape, generator=draws) * 2 - 1
                zero = p.abs() <= ZERO * p.abs().max()
                p.copy_(torch.where(zero, 0.0, p * (size * sign).to(p)))
    return new
