"""The submissions to the benchmark and the rows that the experiment makes of their
logs.
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
    """All submissions to the benchmark, as rows by number, and what their comparisons
    share.

    rows: {number: row of study 'entry'}. noise: the standard deviation within
    submissions and the rate that exchanges steps for loss, here the mean slope of the
    curves, with its standard deviation over submissions. shorter: the row of study
    'shorter': what 100 steps cost by which a plan is shortened (cost, nats), the
    standard error of that (uncertainty), and the number of runs that it is of.
    """

    rows: dict[int, dict]
    noise: judging.Noise
    shorter: dict

    @property
    def planned(self) -> judging.Noise:
        """The noise with another rate, the cost of a shorter plan."""
        rate = self.shorter["cost"], self.shorter["uncertainty"]
        return judging.Noise(self.noise.deviation, self.noise.freedom, *rate)

    def result(self, entry: int) -> judging.Result:
        """Return the mean loss by which a submission is judged, with its numbers of
        runs and steps.

        It is the mean of its logs, or the published one where the two are known to
        differ.
        """
        row = self.rows[entry]
        mean = "published" if ENTRIES[entry].differs else "mean"
        n = row["published_n" if ENTRIES[entry].differs else "n"]
        return judging.Result(row[mean], n, row["steps"])

    def samples(self) -> dict[int, np.ndarray]:
        """Losses of the runs of each submission whose logs are complete."""
        found = {k: np.array(row["losses"]) for k, row in self.rows.items()}
        return {k: x for k, x in found.items() if not ENTRIES[k].differs}


def board(logs: Logs) -> Board:
    """Return the `Board` of all submissions in the logs."""
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
    """Return the gain of submission `new` over `old`, with steps exchanged at either
    rate.
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
    """Return the gain of each record over the one before in two random halves of all
    runs.

    Pairs of which a submission has too few runs to be halved are left out.
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
    """Return how often a 95 % interval holds the true difference of two random halves
    of one submission's runs, which is 0.

    times: how often each submission is halved. The result has the share of each
    submission (shares) and their mean.
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
