"""Verifiable tasks: prompts as tokens, and a program that verifies completions.

  RuleWithExceptions   two answer digits among free tokens; for a quarter of the
                       prompts a hash of the prompt replaces the rule, so that a policy
                       cannot know the answers of all prompts it has not seen
  Countdown            arithmetic programs that reach a target: many are correct

Both have `vocabulary` (tokens as text), `prompt_length`, `completion_length`, `stop`
(the token that ends a completion, None if all are equally long), and

  prompts(seed, n, split)             (n, P) integers, all different problems; 'train'
                                      and 'test' share none, for any seeds
  reward(prompts, completions)        1.0 or 0.0; prompts (B, P), completions (B, T) or
                                      (B, G, T) give (B,) or (B, G)
  demonstration(prompts, rng, noise)  (B, T), with wrong answers at the rate `noise`,
                                      for a supervised start
  lengths(completions)                number of tokens up to and including the stop

Splits and exceptions depend on a fixed hash of the problem, the same on every machine.
"""

from dataclasses import dataclass

import numpy as np

from symlab.harness.rng import stream
from symlab.rlvr.programs import EQUALS, STOP, ZERO, filled, run, templates, values

SPLITS = ("train", "test")
_SPLIT, _EXCEPTION, _ANSWER = 1, 2, 3  # what a hash is for
_CHUNK = 1 << 18  # programs evaluated at once


@dataclass(frozen=True)
class RuleWithExceptions:
    """A task whose answers follow a rule for most prompts and a hash for the others.

    A prompt is four digits x0 x1 x2 x3 in base 12 and '='. The answers are (x0 + x1) %
    12 and (x2 + 2 x3) % 12, except for some prompts, for which a hash chooses two other
    digits. A completion has free tokens and two answer tokens: the first answer stands
    after half of the free tokens, the second at the end.

    work: the number of free tokens. exceptions: the fraction of prompts with a hash.
    scatter: in demonstrations the free tokens copy the prompt's digits; this fraction
        of them is replaced by random digits.

    Raises ValueError for a negative `work` and fractions outside [0, 1].
    """

    work: int = 10
    exceptions: float = 0.25
    scatter: float = 0.5

    base = 12
    stop = None
    prompt_length = 5

    def __post_init__(self):
        if self.work < 0 or not 0 <= self.exceptions <= 1 or not 0 <= self.scatter <= 1:
            raise ValueError("use work of at least 0, and shares from 0 to 1")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token, by the token's number."""
        return (*(str(digit) for digit in range(self.base)), "=")

    @property
    def completion_length(self) -> int:
        """T, the number of tokens of every completion."""
        return self.work + 2

    @property
    def positions(self) -> tuple[int, int]:
        """The indices of the two answer digits in a completion."""
        return self.work // 2, self.work + 1

    def prompts(self, seed: int, n: int, split: str) -> np.ndarray:
        """Return n different prompts of P tokens, (n, P), of a split, 'train' or
        'test'.

        Raises ValueError if the split has fewer than n.
        """
        every = np.arange(self.base**4)
        mine = every[_in_split(every, split)]
        if n > len(mine):
            raise ValueError(f"{split} has {len(mine)} prompts and not {n}: use fewer")
        drawn = stream(seed, f"rule prompts, {split}").permutation(mine)[:n]
        digits = drawn[:, None] // self.base ** np.arange(3, -1, -1) % self.base
        return np.concatenate([digits, np.full((n, 1), self.base)], 1)

    def is_exception(self, prompts) -> np.ndarray:
        """Return booleans (B,): whether the answers of each prompt come from a hash.

        prompts: (B, P) tokens. The answers of the other prompts follow the rule.
        """
        return _uniform(self._numbers(prompts), _EXCEPTION) < self.exceptions

    def answers(self, prompts) -> np.ndarray:
        """Return (B, 2): the two right answer digits of each prompt.

        prompts: (B, P) tokens.
        """
        x = np.asarray(prompts)[:, :4]
        rule = np.stack([x[:, 0] + x[:, 1], x[:, 2] + 2 * x[:, 3]], 1)
        ids = 2 * self._numbers(prompts)[:, None] + np.arange(2)
        other = 1 + (_uniform(ids, _ANSWER) * (self.base - 1)).astype(np.int64)
        return (rule + other * self.is_exception(prompts)[:, None]) % self.base

    def reward(self, prompts, completions) -> np.ndarray:
        """Return 1.0 for each completion with both answers right, else 0.0.

        prompts: (B, P) tokens. completions: (B, T) tokens, one for each prompt, or (B,
            G, T), G for each; the result is (B,) or (B, G).
        """
        y, prompts = _paired(prompts, completions, self)
        right = y[..., list(self.positions)] == _spread(self.answers(prompts), y)
        return right.all(-1).astype(float)

    def demonstration(self, prompts, rng, noise: float) -> np.ndarray:
        """Return completions of T tokens, (B, T), with the right answers, some replaced
        by random digits.

        prompts: (B, P) tokens. rng: a numpy Generator.
        noise: the rate at which an answer digit is replaced.
        """
        prompts, (n, t) = np.asarray(prompts), (len(prompts), self.completion_length)
        replaced = np.full(t, float(self.scatter))
        replaced[list(self.positions)] = noise
        work = [j for j in range(t) if j not in self.positions]
        y = np.zeros((n, t), np.int64)
        y[:, work] = prompts[:, np.arange(self.work) % 4]
        y[:, list(self.positions)] = self.answers(prompts)
        random = rng.integers(0, self.base, (n, t))
        return np.where(rng.random((n, t)) < replaced, random, y)

    def lengths(self, completions) -> np.ndarray:
        """Return the number of tokens of each completion, which is the same for all."""
        return np.full(np.shape(completions)[:-1], self.completion_length)

    def _numbers(self, prompts) -> np.ndarray:
        return np.asarray(prompts)[:, :4] @ self.base ** np.arange(3, -1, -1)


@dataclass(frozen=True)
class Countdown:
    """Reach a target from `count` numbers, each used at most once, by + - * /.

    A prompt is the numbers (1 to `largest`), tens and ones of the target (1 to 99, none
    of the numbers) and '='. A completion is a program in postfix notation, ended by
    '.': '3 4 + 2 *' is 14. Intermediate fractions are exact; tokens after the stop are
    ignored.

    count: 2, 3 or 4. largest: from 9 to 99. Raises ValueError for other values.
    """

    count: int = 3
    largest: int = 20

    stop = STOP

    def __post_init__(self):
        if self.count not in (2, 3, 4) or not 9 <= self.largest <= 99:
            raise ValueError("use a count of 2, 3 or 4, and a largest from 9 to 99")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token, by the token's number."""
        return (*"+-*/=.", *(str(number) for number in range(self.largest + 1)))

    @property
    def prompt_length(self) -> int:
        """P, the number of tokens of a prompt."""
        return self.count + 3

    @property
    def completion_length(self) -> int:
        """T, the largest number of tokens of a completion."""
        return 2 * self.count

    def prompts(self, seed: int, n: int, split: str) -> np.ndarray:
        """Return n different prompts of P tokens, (n, P), of a split, 'train' or
        'test'.

        Raises ValueError if the split has fewer than n.
        """
        rng = stream(seed, f"countdown prompts, {split}")
        size = min(2 * n + 64, 1 << 14)
        found, keys = np.empty((0, self.prompt_length), np.int64), np.empty(0, np.int64)
        while len(found) < n:
            before = len(found)
            new, new_keys = self._problems(size, rng)
            mine = _in_split(new_keys, split)
            found = np.concatenate([found, new[mine]])
            keys = np.concatenate([keys, new_keys[mine]])
            first = np.sort(np.unique(keys, return_index=True)[1])
            found, keys = found[first], keys[first]
            if len(found) <= before + size // 500:  # nearly all that is drawn is known
                raise ValueError(f"{split} has about {before} problems: ask for fewer")
        return found[:n]

    def value(self, prompts, completions) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of programs as numerators and denominators; 0, 0 for no
        value.

        prompts: (B, P) tokens, which give the numbers that each program may use.
        completions: (B, T) or (B, G, T), the programs' tokens; the results are (B,) or
            (B, G).
        """
        y, prompts = _paired(prompts, completions, self)
        rows = np.broadcast_to(_spread(prompts, y), (*y.shape[:-1], prompts.shape[1]))
        numbers = rows[..., : self.count].reshape(-1, self.count) - ZERO
        top, bottom = run(y.reshape(-1, y.shape[-1]), numbers)
        return top.reshape(y.shape[:-1]), bottom.reshape(y.shape[:-1])

    def reward(self, prompts, completions) -> np.ndarray:
        """Return 1.0 for each completion whose program reaches the target, else 0.0.

        prompts: (B, P) tokens. completions: (B, T) tokens, one for each prompt, or (B,
            G, T), G for each; the result is (B,) or (B, G).
        """
        top, bottom = self.value(prompts, completions)
        target = _spread(self.targets(prompts)[:, None], top[..., None])[..., 0]
        return ((bottom != 0) & (top == target * bottom)).astype(float)

    def targets(self, prompts) -> np.ndarray:
        """Return the target number of each prompt, (B,).

        prompts: (B, P) tokens.
        """
        tens, ones = np.asarray(prompts).T[self.count : self.count + 2] - ZERO
        return 10 * tens + ones

    def programs(self, prompts) -> tuple[np.ndarray, np.ndarray]:
        """Return all S programs of T tokens over each prompt's numbers, (B, S, T), and
        which reach its target.

        prompts: (B, P) tokens. The second result is booleans (B, S).
        """
        prompts = np.asarray(prompts)
        programs = filled(templates(self.count), prompts[:, None, : self.count])
        return programs, self._right(prompts)

    def demonstration(self, prompts, rng, noise: float) -> np.ndarray:
        """Return random correct programs of T tokens, (B, T), some replaced by any
        program over the prompt's numbers.

        prompts: (B, P) tokens. rng: a numpy Generator. noise: the rate of replacement.

        Raises ValueError for a prompt without a correct program.
        """
        prompts, chosen = np.asarray(prompts), []
        step = max(1, _CHUNK // len(templates(self.count)))
        for start in range(0, len(prompts), step):
            right = self._right(prompts[start : start + step])
            if not right.any(1).all():
                raise ValueError("a prompt has no correct program: use `prompts`")
            right |= rng.random((len(right), 1)) < noise
            chosen.append((rng.random(right.shape) * right).argmax(1))
        table = templates(self.count)[np.concatenate(chosen), None]
        return filled(table, prompts[:, None, : self.count])[:, 0]

    def lengths(self, completions) -> np.ndarray:
        """Return the number of tokens of each completion up to and including its stop.

        Without a stop it is the number of all tokens.
        """
        ended = np.asarray(completions) == self.stop
        full = np.shape(completions)[-1]
        return np.where(ended.any(-1), ended.argmax(-1) + 1, full)

    def _right(self, prompts) -> np.ndarray:
        """(B, S) which programs, in the order of the templates, reach the target."""
        top, bottom = values(prompts[:, : self.count] - ZERO)
        return (bottom != 0) & (top == self.targets(prompts)[:, None] * bottom)

    def _problems(self, size: int, rng):
        """Prompts whose target is what a random program computes, and their keys."""
        numbers = rng.integers(1, self.largest + 1, (size, self.count))
        whole = templates(self.count)
        whole = whole[whole[:, -2] != STOP]  # those that use every number
        drawn = whole[rng.integers(0, len(whole), size)]
        programs = filled(drawn[:, None], numbers[:, None] + ZERO)[:, 0]
        top, bottom = run(programs, numbers)
        top, bottom = np.where(bottom == 0, 0, top), np.where(bottom == 0, 1, bottom)
        target = top // bottom
        good = (top == target * bottom) & (target >= 1) & (target <= 99)
        good &= (numbers != target[:, None]).all(1)
        numbers, target = numbers[good], target[good]
        key = np.sort(numbers, 1) @ 100 ** np.arange(self.count) * 100 + target
        shown = np.column_stack([numbers, target // 10, target % 10]) + ZERO
        return np.column_stack([shown, np.full(len(shown), EQUALS)]), key


# --- hashes and shapes ---------------------------------------------------------------


def _mixed(x: np.ndarray) -> np.ndarray:
    """splitmix64: 64 well mixed bits of each integer (Steele, Lea and Flood, 2014)."""
    x = np.asarray(x).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _uniform(ids, purpose: int) -> np.ndarray:
    """A number in [0, 1) of each id, another one for each purpose."""
    salt = _mixed(np.array([purpose]))[0]
    return (_mixed(np.asarray(ids).astype(np.uint64) ^ salt) >> np.uint64(11)) / 2.0**53


def _in_split(ids: np.ndarray, split: str) -> np.ndarray:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: use {' or '.join(SPLITS)}")
    return (_uniform(ids, _SPLIT) < 0.5) == (split == "train")


def _paired(prompts, completions, task) -> tuple[np.ndarray, np.ndarray]:
    prompts, y = np.asarray(prompts), np.asarray(completions)
    fit = prompts.ndim == 2 and prompts.shape[1] == task.prompt_length
    if not fit or y.ndim < 2 or len(y) != len(prompts):
        raise ValueError(
            f"prompts have shape {prompts.shape} and completions {y.shape}: give "
            f"(B, {task.prompt_length}) and (B, ..., {task.completion_length})"
        )
    if y.shape[-1] != task.completion_length:
        raise ValueError(
            f"completions have {y.shape[-1]} tokens: give {task.completion_length}"
        )
    return y, prompts


def _spread(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x (B, K) with axes for those of y (B, ..., K) between."""
    return x.reshape(len(x), *(1,) * (y.ndim - 2), -1)
