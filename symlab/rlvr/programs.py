"""Arithmetic programs as token sequences: their enumeration and an executor.

A program is in postfix notation and ends with a stop token: 3 4 + 2 * is 14. `run`
executes any sequence of tokens, and `values` computes all programs over some numbers by
recursion; neither uses the other. Values are exact fractions top / bottom, with bottom
0 for no value.
"""

from functools import cache

import numpy as np

EQUALS, STOP, ZERO = 4, 5, 6  # tokens; 0 to 3 are + - * /, numbers come from 6 on
SLOT = 1000  # a number's place in a template, above all tokens


@cache
def templates(count: int) -> np.ndarray:
    """Return all postfix arithmetic programs over `count` numbers, (S, 2 count) tokens.

    Each program uses at least two of the numbers, each at most once. The tokens 1000,
    1001, ... are placeholders for the first, second, ... number; stop tokens fill the
    end.
    """

    @cache
    def over(slots: frozenset) -> tuple:
        if len(slots) == 1:
            return ((SLOT + next(iter(slots)),),)
        found = []
        for left in _subsets(slots):
            if left and left != slots:
                pairs = [(a, b) for a in over(left) for b in over(slots - left)]
                found += [(*a, *b, op) for a, b in pairs for op in range(4)]
        return tuple(found)

    programs = [program for slots in _operands(count) for program in over(slots)]
    table = np.full((len(programs), 2 * count), STOP)
    for row, program in zip(table, programs, strict=True):
        row[: len(program)] = program
    return table


def values(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of all programs of `templates`, as numerators and denominators.

    numbers: (B, N), rows of N numbers. Both results are (B, S), for S programs.

    A denominator of 0 stands for no value. The values are computed by recursion over
    sets of numbers, not by running the programs.
    """

    @cache
    def over(slots: frozenset) -> tuple[np.ndarray, np.ndarray]:
        if len(slots) == 1:
            column = numbers[:, list(slots)]
            return column, np.ones_like(column)
        parts = []
        for left in _subsets(slots):
            if left and left != slots:
                first = (x[:, :, None, None] for x in over(left))
                second = (x[:, None, :, None] for x in over(slots - left))
                found = _combined(np.arange(4), *first, *second)
                parts.append([x.reshape(len(numbers), -1) for x in found])
        return tuple(np.concatenate(part, 1) for part in zip(*parts, strict=True))

    every = [over(slots) for slots in _operands(numbers.shape[1])]
    return tuple(np.concatenate(part, 1) for part in zip(*every, strict=True))


def _operands(count: int) -> list[frozenset]:
    """The sets of slots that a program uses: two or more."""
    return [s for s in _subsets(frozenset(range(count))) if len(s) > 1]


def _subsets(slots: frozenset) -> list[frozenset]:
    ordered = sorted(slots)
    masks = range(1 << len(ordered))
    return [frozenset(s for i, s in enumerate(ordered) if m >> i & 1) for m in masks]


def filled(programs: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return programs (B, S, T) with the placeholders 1000, 1001, ... replaced by
    numbers.

    programs: (S, T) or (B, S, T), tokens.
    numbers: (B, 1, N), the tokens of each row's N numbers.
    """
    programs = np.broadcast_to(programs, (len(numbers), *programs.shape[-2:]))
    inserted = np.take_along_axis(numbers, np.clip(programs - SLOT, 0, None), -1)
    return np.where(programs >= SLOT, inserted, programs)


def run(programs: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of postfix programs as numerators and denominators, (M,) each.

    programs: (M, T), tokens.
    numbers: (M, N), the numbers that each program may use, each at most once.

    All programs are executed at once, on a stack machine with exact integers. The
    denominator is 0 if a program has no value: an empty stack, a number that it may not
    use, a division by 0, or no stop token. With four numbers up to 99 no integer
    exceeds 198^4.
    """
    m, t = programs.shape
    free = np.ones(numbers.shape, bool)  # numbers not used yet
    top, bottom = np.zeros((2, m, t + 1), np.int64)
    depth, fine, ended = np.zeros(m, np.int64), np.ones(m, bool), np.zeros(m, bool)
    for token in programs.T:
        live = fine & ~ended
        ended |= live & (token == STOP)
        live &= ~ended
        number, op = live & (token >= ZERO), live & (token >= 0) & (token < EQUALS)
        fine &= ended | number | op | ~live
        rows = np.flatnonzero(number)
        its = token[rows] - ZERO
        match = free[rows] & (numbers[rows] == its[:, None])
        fine[rows] &= match.any(1)
        free[rows, match.argmax(1)] = False
        top[rows, depth[rows]], bottom[rows, depth[rows]] = its, 1
        depth[rows] += 1
        fine &= ~(op & (depth < 2))
        rows = np.flatnonzero(op & fine)
        at = depth[rows] - 2
        a, b = ((top[rows, at + i], bottom[rows, at + i]) for i in (0, 1))
        top[rows, at], bottom[rows, at] = _combined(token[rows], *a, *b)
        depth[rows] -= 1
        fine[rows] &= bottom[rows, at] != 0
    fine &= ended & (depth == 1)
    return np.where(fine, top[:, 0], 0), np.where(fine, bottom[:, 0], 0)


def _combined(op, a, b, c, d) -> tuple[np.ndarray, np.ndarray]:
    """a/b op c/d, not reduced; its bottom is 0 if b, d or a divisor is."""
    cross, turned = a * d, b * c
    kinds = [op == 0, op == 1, op == 2]
    top = np.select(kinds, [cross + turned, cross - turned, a * c], cross)
    return top, np.where(op == 3, turned * (d != 0), b * d)
