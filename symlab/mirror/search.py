"""Find the removals of hidden units that reproduce a model's outputs.

Proposed removals are tried together; if the outputs change, each half of the proposals
is tried by itself. Outputs of the smaller module are compared in float64 if the model
allows it.
"""

from dataclasses import replace

import torch
from torch import nn

from symlab.mirror.heads import blocks, head_moves, unseen, width_moves
from symlab.mirror.indices import UNSURE, indices
from symlab.mirror.moves import (
    Move,
    Site,
    canonical,
    cut_move,
    distances,
    folding,
    merging,
    no_bias,
    site,
    unit_move,
    unit_moves,
)
from symlab.mirror.private import copied
from symlab.mirror.products import rank
from symlab.mirror.reading import readings
from symlab.mirror.sizes import edits
from symlab.mirror.surgery import Draft, Misfit, smaller
from symlab.mirror.units import Index
from symlab.mirror.verify import (
    compared,
    double,
    limit,
    noisy,
    outputs,
    shuffled,
    widened,
)

ROUNDS = 5  # of measuring all units where changes are tolerated


class Search:
    """Proposes removals of a model's hidden units, verifies them, and keeps or undoes
    them.

    model, loss, batch: the outputs that are compared are those of `loss(model, batch)`.
    silent: whether to remove also units whose value is constant on this batch only.

    draft: the tensors with the removals made so far.
    counts: {number of an index: {kind of removal: number of units removed}}.
    notes: {number of an index: {reason: number of units that are kept for it}}.
    """

    def __init__(self, model: nn.Module, loss, batch, silent: bool):
        free = copied(model).requires_grad_(True)  # frozen tensors are cut, too
        self.found = indices(free, loss, batch)
        self.model, self.loss, self.silent = model, loss, silent
        self.wide, self.batch = double(model, loss, batch)
        self.reference = outputs(self.wide, loss, self.batch)
        self.limit = limit(model, self.exactly)
        met = readings(self.wide, loss, self.batch)
        both = (self.batch, noisy(self.batch))
        other = [
            readings(shuffled(self.wide, i), loss, *both, tilted=True) for i in range(2)
        ]
        self.sites: dict[int, Site] = {}
        for n, index in enumerate(self.found):
            if not index.heads and index.parts[0].shape and _open(index):
                self.sites[n] = site(n, index, model, met, other)
        self.found += unseen(self.sites, self.found)
        self.blocks = blocks(model, self.sites, self.found)
        self.open_heads = {b.number for b in self.blocks}
        self.draft = Draft(dict(model.named_parameters()) | dict(model.named_buffers()))
        self.counts: dict[int, dict[str, int]] = {}
        self.notes: dict[int, dict[str, int]] = {}  # reason: units
        self.misfit: dict[int, str] = {}
        self.undone: set[tuple] = set()
        self.eager: set[int] = set()  # see `Edits`

    # --- proposals ---

    def exact(self) -> None:
        """Apply removals that change outputs by rounding only, until none is left."""
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
        """Return the removals to try next, for all hidden units and attention heads."""
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
            moves = [cut_move(s, width)] if width < count else []
            fixed = s.index.subspace is not None
            s.bound = s.bound or ("it meets constants" if fixed else "")
        else:
            moves = unit_moves(s, self.draft, self.silent)
            self._note_silent(s)
        if s.bound and moves:
            turned = s.index.kind == "rotation"
            gone = count - width if turned else sum(len(m.units) for m in moves)
            self._note(s.number, s.bound, gone)
            return []
        open_ = [m for m in moves if not self._unfolded(s, m)]
        if len(open_) < len(moves):
            why = "their reader has no bias for their constant value"
            self._note(s.number, why, len(moves) - len(open_))
        return open_

    def _note_silent(self, s: Site) -> None:
        """Units that are constant on the batch but not by their weights."""
        here = s.silent & ~s.fixed & self.draft.alive(s.index)
        if not self.silent and bool(here.any()):
            why = "silent on this batch only (silent=True removes them)"
            self._note(s.number, why, int(here.sum()))

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
        """Keep those removals that together change the outputs by at most `limit`.

        moves: the proposed removals. limit: the largest relative change of the outputs.

        If all of them together change the outputs by more, each half is tried by
        itself. Returns whether any was kept.
        """
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
            self._note(move.owner, text, sum(done[0][1].values()))
        return False

    def carried_out(self, moves: list[Move], factor: float = 1.0):
        """Apply removals to a copy of the draft, without comparing outputs.

        moves: the proposed removals.
        factor: the factor on a matrix product whose inner width a removal changes.

        Returns the new draft and, for each removal that was possible, (move, {number of
        an
        index: number of units removed}).
        """
        draft, done = self.draft.fork(), []
        for m in moves:
            if m.needs:
                here = draft.alive(self.found[m.owner])
                if not bool(here[list(m.needs)].all()) or here.sum() <= len(m.units):
                    continue  # another move took a unit, or it would be the last one
            before = self._units(m, draft)
            m.change(draft, factor)
            after = self._units(m, draft)
            gone = {n: before[n] - after[n] for n in before}
            if any(gone.values()):
                done.append((m, gone))
        return draft, done

    def _units(self, move: Move, draft: Draft) -> dict[int, int]:
        return {n: int(draft.alive(self.found[n]).sum()) for n in move.indices}

    def _kept(self, draft: Draft, done: list[tuple[Move, dict]]) -> bool:
        self.draft = draft
        for m, gone in done:
            for n, units in gone.items():
                kinds = self.counts.setdefault(n, {})
                kinds[m.kind] = kinds.get(m.kind, 0) + units
        return True

    def build(self, draft: Draft, eager: set[int] | None = None) -> nn.Module:
        """Return the smaller module that a draft describes.

        draft: the tensors with the removals.
        eager: numbers of the indices (sets of units) for which every attribute of a
            module that equals the old width is changed, whatever its name.
        """
        eager = self.eager if eager is None else eager
        new = edits(self.model, self.sites, self.blocks, draft, eager)
        return smaller(self.model, draft, new)

    def change(self, draft: Draft, eager: set[int] | None = None) -> tuple[float, str]:
        """Return the relative change of the outputs under a draft's removals, and a
        reason.

        draft, eager: as for `build`.

        The change is infinite, and the reason not empty, if the smaller module cannot
        run.
        """
        try:
            new = self.build(draft, eager)
            new = widened(new) if self.exactly else new
            found = outputs(new, self.loss, self.batch)
        except Misfit as error:
            return float("inf"), str(error)
        except Exception as error:  # the model's own code, on tensors it did not expect
            text = " ".join(str(error).split())[:80]
            return float("inf"), f"the model's code fixes this width ({text})"
        return compared(self.reference, found)

    @property
    def exactly(self) -> bool:
        """Whether the outputs can be computed in float64."""
        kinds = {p.dtype for p in self.wide.parameters() if p.is_floating_point()}
        return kinds == {torch.float64}

    # --- with a tolerance ---

    def approximate(self, tolerance: float) -> None:
        """Remove and merge units one by one, first those that change the outputs least.

        tolerance: the largest relative change of the outputs that is accepted.
        """
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
            bound = s.bound or s.norms or s.both or _grouped(self.model, s.index)
            if bound or not free:
                continue
            for m in self._untried(self._lossy(s)):
                m.loss = self._loss(m)
                key = (n, m.units)
                if m.loss <= tolerance and (key not in best or m.loss < best[key].loss):
                    best[key] = m
        return sorted(best.values(), key=lambda m: m.loss)

    def _lossy(self, s: Site) -> list[Move]:
        here, kind = self.draft.alive(s.index), "approximated"
        if s.index.kind == "rotation":
            widths = range(int(here.sum()) - 1, 0, -1)
            return [cut_move(s, w, kind) for w in widths]
        if not self.silent:
            here &= ~s.silent | s.fixed
        live = here.nonzero()[:, 0].tolist()
        if len(live) < 2:
            return []
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
            new = outputs(self.wide, self.loss, self.batch)
            for n in draft.changed:
                named[n].copy_(self.draft.tensor(n))
        return compared(self.reference, new)[0]


# --- roles ----------------------------------------------------------------------------


def _open(index: Index) -> bool:
    """Whether something is known of an index; UNSURE ones have their parts at least."""
    known = not index.unknown and index.symmetry != "none"
    return known or index.unknown == UNSURE


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

    return replace(moves[0], change=change, indices=tuple(m.owner for m in moves))
