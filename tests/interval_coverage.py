"""How often each interval covers the truth, drawn from laws whose truth is known.

    python -m tests.interval_coverage    writes the table of docs/statistics.md again

Each cell is a stream of its own, so that tests/test_coverage.py can check any of them.
"""

import re
from pathlib import Path

import numpy as np
import scipy.stats

from symlab.harness import stats

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
PLACE = re.compile(r"<!-- coverage -->\n.*?<!-- end -->\n", re.DOTALL)
DRAWS = 2000
SIZES = (3, 4, 8, 16, 128)
RUNS = 4  # of one seed, in the row of dependent outcomes
LAWS = {
    "normal": scipy.stats.norm(),
    "Student t, 3 d.f.": scipy.stats.t(3),
    "uniform": scipy.stats.uniform(),
    "exponential": scipy.stats.expon(),
    "lognormal": scipy.stats.lognorm(1),
    "Bernoulli 0.5": scipy.stats.bernoulli(0.5),
    "Bernoulli 0.1": scipy.stats.bernoulli(0.1),
}
CONTINUOUS, BINARY = list(LAWS)[:5], list(LAWS)[5:]


def covers_mean(method, law, x: np.ndarray) -> bool:
    interval = method(x)
    return interval.low <= law.mean() <= interval.high


def student(x: np.ndarray):
    """Student's interval alone, as a yardstick."""
    low, high = stats._student(x.mean(), x.std(ddof=1), len(x), 1 - stats.LEVEL)
    return stats.Interval(x.mean(), low, high, len(x))


def mean(law, x) -> bool:
    return covers_mean(stats.mean, law, x)


def students(law, x) -> bool:
    return covers_mean(student, law, x)


def anytime(law, x) -> bool:
    return covers_mean(stats.anytime, law, x)


def fraction(law, x) -> bool:
    return covers_mean(stats.fraction, law, x)


def dependent(law, x) -> bool:
    """Each seed has several runs, which all agree."""
    seeds = np.repeat(np.arange(len(x)), RUNS)
    interval = stats.fraction(np.repeat(x, RUNS), seeds)
    return interval.low <= law.mean() <= interval.high


def worst(law, x) -> bool:
    """The share of the law beyond the largest value is within the tolerance bound."""
    found = stats.worst(x, seeds=np.arange(len(x)))
    return law.sf(found.value) <= found.beyond


ROWS = {
    "`mean`": (mean, CONTINUOUS + BINARY),
    "Student's alone": (students, CONTINUOUS + BINARY),
    "`anytime`, one look": (anytime, CONTINUOUS),
    "`fraction`": (fraction, BINARY),
    f"`fraction`, {RUNS} equal runs of each seed": (dependent, BINARY),
    "`worst`, tolerance bound": (worst, CONTINUOUS + BINARY),
}


def coverage(covers, law: str, n: int) -> float:
    """The share of DRAWS samples of n seeds whose interval covers."""
    random = np.random.default_rng([n, list(LAWS).index(law)])
    samples = LAWS[law].rvs((DRAWS, n), random_state=random).astype(float)
    return float(np.mean([covers(LAWS[law], x) for x in samples]))


def table() -> str:
    """In Markdown, in per cent."""
    sizes = " | ".join(f"n = {n}" for n in SIZES)
    lines = [f"| interval | law | {sizes} |", "|---" * (len(SIZES) + 2) + "|"]
    for name, (covers, laws) in ROWS.items():
        for law in laws:
            cells = (f"{100 * coverage(covers, law, n):.1f}" for n in SIZES)
            lines.append(f"| {name} | {law} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cells(text: str) -> dict[tuple[str, str, int], float]:
    """The table of a page: (interval, law, n) -> per cent."""
    found = {}
    for line in PLACE.search(text)[0].splitlines():
        if line.startswith("| ") and not line.startswith("| interval"):
            name, law, *shares = (c.strip() for c in line.strip("|").split("|"))
            numbers = zip(SIZES, map(float, shares), strict=True)
            found |= {(name, law, n): share for n, share in numbers}
    return found


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    filled = f"<!-- coverage -->\n{table()}<!-- end -->\n"
    PAGE.write_text(PLACE.sub(lambda _: filled, text), "utf-8")
