"""The submissions to the modded-nanogpt benchmark, as rows made from their public logs.

The rows are those of the experiment optimizer_leaderboard, which re-analyses the
benchmark.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from symlab.leaderboard import judging
from symlab.leaderboard.entries import ENTRIES, SUCCESSIONS, runs
from symlab.leaderboard.source import Logs

EARLY = (125, 500, 1000, 2000, 2500)  # steps at which submissions are compared
LEAST = 4  # runs that can be halved
SHORTENED, SHORTER_LOG = 12, "478c0427-06ce-4952-bc0a-7e2dfaea29b6.txt"


@dataclass(frozen=True)
class Board:
    """All submissions to the benchmark, and what comparisons between them have in
    common.

    rows: {number of a submission: its row of study 'entry'}.
    noise: the standard deviation of the loss between runs of one submission, and the
        rate that converts steps to loss: the mean slope of the loss curves at their
        end, with its standard deviation over submissions.
    shorter: the row of study 'shorter', on runs whose planned number of steps was
        reduced: the cost of 100 steps less (cost, in nats), its standard error
        (uncertainty), and the number of runs from which it was computed (runs).
    """

    rows: dict[int, dict]
    noise: judging.Noise
    shorter: dict

    @property
    def planned(self) -> judging.Noise:
        """The same noise with another price of steps: what planning a run 100 steps
        shorter costs, in nats.
        """
        rate = self.shorter["cost"], self.shorter["uncertainty"]
        return judging.Noise(self.noise.deviation, self.noise.freedom, *rate)

    def result(self, entry: int) -> judging.Result:
        """Return the mean loss of a submission, with its numbers of runs and steps.

        entry: the number of the submission.

        It is the mean over its public logs, or the published mean if the two are known
        to differ.
        """
        row = self.rows[entry]
        mean = "published" if ENTRIES[entry].differs else "mean"
        n = row["published_n" if ENTRIES[entry].differs else "n"]
        return judging.Result(row[mean], n, row["steps"])

    def samples(self) -> dict[int, np.ndarray]:
        """Return {submission: final losses of its runs}, for submissions with complete
        logs.
        """
        found = {k: np.array(row["losses"]) for k, row in self.rows.items()}
        return {k: x for k, x in found.items() if not ENTRIES[k].differs}


def board(logs: Logs) -> Board:
    """Return the `Board` of all submissions to the benchmark.

    logs: the public logs of their runs.
    """
    rows = {r.entry: _entry(logs.curves, r) for r in logs.entries.itertuples()}
    losses = [r["losses"] for k, r in rows.items() if not ENTRIES[k].differs]
    ends = [r["slope"] for k, r in rows.items() if not ENTRIES[k].readout]
    slopes = np.array([s for s in ends if not np.isnan(s)])
    stopped = (float(slopes.mean()), float(slopes.std(ddof=1)))
    deviation, freedom = judging.pooled(losses)
    shorter = _shorter(logs.curves, rows[SHORTENED], deviation)
    found = Board(rows, judging.Noise(deviation, freedom, *stopped), shorter)
    for entry, row in rows.items():
        above = found.result(entry).mean - judging.TARGET
        row["reach"] = row["steps"] + 100 * above / stopped[0]
    return found


def _shorter(curves: pd.DataFrame, row: dict, deviation: float) -> dict:
    """Return the row of study 'shorter'; both plans were stopped equally long before
    their end.
    """
    own = curves[curves.log == SHORTER_LOG]
    before = row["planned"] - row["steps"]
    losses = own[own.step == own.total_steps - before].val_loss
    hundreds = float(row["planned"] - own.total_steps.iloc[0]) / 100
    error = deviation * (1 / len(losses) + 1 / row["n"]) ** 0.5
    return {
        "cost": (float(losses.mean()) - row["mean"]) / hundreds,
        "uncertainty": error / hundreds,
        "runs": len(losses) + row["n"],
    }


def pair(board: Board, new: int, old: int) -> dict:
    """Return the gain of submission `new` over `old` at equal steps, as `judging.gain`.

    Steps are converted to loss at both rates: the keys of the result that end in
    "_planned" use the cost of planning a shorter run, the others the slope of the loss
    curves. `runs` is the number of runs of both submissions.
    """
    results = board.result(new), board.result(old)
    planned = judging.gain(*results, board.planned)
    return {
        **judging.gain(*results, board.noise),
        **{f"{k}_planned": v for k, v in planned.items()},
        "runs": results[0].n + results[1].n,
    }


def _entry(curves: pd.DataFrame, submitted) -> dict:
    """Return the row of one line of the benchmark's table."""
    steps, entry = submitted.steps, ENTRIES[submitted.entry]
    own = runs(curves, submitted.log, steps, entry)
    losses = own[own.step == steps].val_loss.to_numpy()
    several = len(losses) > 1
    return {
        "steps": int(steps),
        "planned": int(own.total_steps.iloc[0]),
        "published": float(submitted.mean_loss),
        "published_n": int(submitted.n),
        "mean": float(losses.mean()),
        "n": len(losses),
        "losses": [float(x) for x in losses],
        "deviation": float(losses.std(ddof=1)) if several else np.nan,
        "slope": judging.slope(own, steps),
        **{f"early_{t}": float(own[own.step == t].val_loss.mean()) for t in EARLY},
    }


def _halved(draws, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mixed = draws.permutation(losses)
    return mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]


def halves(board: Board, draws: np.random.Generator) -> dict:
    """Return the gain of each record over the previous record in two random halves of
    all runs.

    draws: the source of random numbers.

    A pair is left out if one of its submissions has too few runs to be halved.
    """
    parts = {
        k: _halved(draws, x) for k, x in board.samples().items() if len(x) >= LEAST
    }

    def judged(new: int, old: int, half: int) -> dict:
        both = (
            judging.Result(float(x.mean()), len(x), board.rows[k]["steps"])
            for k in (new, old)
            for x in [parts[k][half]]
        )
        return judging.gain(*both, board.noise)

    pairs = [pair for pair in SUCCESSIONS if parts.keys() >= set(pair)]
    first, second = ([judged(*pair, half) for pair in pairs] for half in (0, 1))
    return {
        "records": [new for new, _ in pairs],
        "gain_first": [g["gain"] for g in first],
        "p_first": [g["p"] for g in first],
        "gain_second": [g["gain"] for g in second],
    }


def coverage(board: Board, draws: np.random.Generator, times: int) -> dict:
    """Return how often a 95 % interval contains the true difference, 0, of two equal
    samples.

    The samples are two random halves of the runs of one submission.

    draws: the source of random numbers.
    times: how often the runs of each submission are divided.

    The result has the fraction for each submission (shares) and their mean.
    """
    shares = []
    for losses in board.samples().values():
        if len(losses) >= LEAST:
            out = [
                judging.missed(*_halved(draws, losses), board.noise)
                for _ in range(times)
            ]
            shares.append(1 - float(np.mean(out)))
    return {"covered": float(np.mean(shares)), "shares": shares}
