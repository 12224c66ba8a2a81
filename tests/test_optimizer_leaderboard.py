"""The public optimizer benchmark: its logs, its submissions, and the statistics."""

import io
import math
import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from symlab.harness import contract, project
from symlab.leaderboard import (
    board,
    entries,
    estimates,
    intervals,
    judging,
    logs,
    source,
)
from symlab.leaderboard.entries import ENTRIES, Entry

PROJECT = project.find(Path(__file__).resolve().parents[1])
DATA = Path(os.environ.get("SYMLAB_DATA", "nowhere")) / "leaderboard"
SCRIPT = 'print0(f"step:{step}/{train_steps} val_loss:{val_loss:.5f} train_time:")\n'


def log(*runs: list[tuple[int, float]], total: int = 300) -> str:
    """A log in the benchmark's form: a script, then the evaluations of each run."""
    lines = [
        f"step:{step}/{total} val_loss:{loss:.5f} train_time:{step}.000s step_avg:9ms"
        for run in runs
        for step, loss in run
    ]
    return SCRIPT + "=" * 20 + "\n" + "\n".join(lines) + "\n"


def falling(end: float) -> list[tuple[int, float]]:
    return [(0, 10.8), (100, end + 0.02), (200, end + 0.01), (300, end)]


README = """
| # | Steps to 3.28 | Evidence | Description | Date | Log | Contributors |
| - | - | - | - | - | - | - |
| 1 | 300(!) | 3.2777 (n=2)Ⓧ | [Muon](https://a.b/) lr=.02 | 2026/04/26 | [log](results/a.txt) | [@x](https://x.com/x) |
| 2 | 5625 | 3.2790 (n=10)✓ | Adam (see #1) | 2026/04/26 | [log](results/b/c.txt) | [PR](https://a.b) by [@y](https://x.com/y) |
"""  # noqa: E501
FOLDER = {
    "a.txt": log(falling(3.277), falling(3.278)),
    "b/one.txt": log(falling(3.271)),
    "b/two.out": log(falling(3.272)),
    "b/two_again.txt": log(falling(3.272)),
    "b/end.txt": log([(300, 3.271)]),
    "b/other/three.txt": log(falling(3.281)),
    "b/script.py": SCRIPT,
    "b/seed.stdout": log(falling(3.273)),
    "b/notes.txt": "step:300/300 train_time:1.000s\nstep:300/300 val_loss:nan train\n",
}


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    return logs.curves(FOLDER.items())


def test_a_log_holds_its_evaluations_and_no_line_of_its_script():
    found = [*logs.evaluations(FOLDER["a.txt"])]
    assert len(found) == 8
    assert found[0] == (0, 0, 300, 10.8)
    assert found[4] == (1, 0, 300, 10.8)  # the step does not grow: a second run
    assert found[-1] == (1, 300, 300, 3.278)


def test_logs_of_other_kinds_are_left_out(curves):
    assert list(curves.columns) == list(logs.COLUMNS)
    assert "b/seed.stdout" not in set(curves.log)  # repeats a .txt
    assert "b/notes.txt" not in set(curves.log)  # a diverged run, and other lines
    assert curves.groupby(["log", "run"]).ngroups == 7


def test_the_table_of_submissions_is_read_from_the_readme():
    table = logs.table(README)
    assert table.to_dict("list") == {
        "entry": [1, 2],
        "steps": [300, 5625],
        "record": [True, False],
        "mean_loss": [3.2777, 3.279],
        "n": [2, 10],
        "log": ["a.txt", "b/c.txt"],
    }


def test_a_submission_has_the_distinct_complete_runs_of_its_folder(curves):
    own = entries.runs(curves, "b/one.txt", 300, Entry("coordinate"))
    losses = own[own.step == 300].set_index("trial").val_loss
    assert losses.to_dict() == {0: 3.271, 1: 3.281, 2: 3.272}  # no end, no copy
    part = entries.runs(curves, "b/one.txt", 300, Entry("coordinate", only="/other/"))
    assert set(part.log) == {"b/other/three.txt"}
    assert entries.runs(curves, "a.txt", 200, Entry("coordinate")).trial.nunique() == 2
    with pytest.raises(ValueError, match="no run of a.txt was evaluated at step 250"):
        entries.runs(curves, "a.txt", 250, Entry("coordinate"))
    planned = Entry("coordinate", only=299)  # another plan has no run here
    with pytest.raises(ValueError, match="no run"):
        entries.runs(curves, "a.txt", 300, planned)


def archive(path: Path, files: dict[str, str]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"modded-nanogpt-f411/{name}")
            info.size = len(content := text.encode())
            tar.addfile(info, io.BytesIO(content))
    return path.as_uri()


def test_a_download_gives_what_the_folder_gives(tmp_path, curves, monkeypatch):
    files = {source.FOLDER + "README.md": README, "records/other.txt": log(falling(1))}
    files |= {source.RESULTS + name: text for name, text in FOLDER.items()}
    address = archive(tmp_path / "all.tar.gz", files)
    found = source.download(address)
    pd.testing.assert_frame_equal(found.curves, curves)
    monkeypatch.setattr(source, "ADDRESS", address)
    monkeypatch.setattr(source, "DIGEST", found.digest)
    monkeypatch.setenv("SYMLAB_DATA", str(tmp_path))
    monkeypatch.setenv("SYMLAB_DOWNLOAD", "1")
    assert source.stored().digest == found.digest
    monkeypatch.delenv("SYMLAB_DOWNLOAD")
    assert source.stored().digest == found.digest  # from the files written above
    with pytest.raises(ValueError, match="has no table of submissions"):
        source.download(archive(tmp_path / "empty.tar.gz", {"README.md": README}))


def test_other_logs_and_absent_logs_are_refused(tmp_path, curves, monkeypatch):
    monkeypatch.setenv("SYMLAB_DATA", str(tmp_path))
    monkeypatch.delenv("SYMLAB_DOWNLOAD", raising=False)
    with pytest.raises(FileNotFoundError, match="SYMLAB_DOWNLOAD=1"):
        source.stored()
    changed = source.Logs(curves, logs.table(README))
    source._write(changed, tmp_path / "leaderboard")
    with pytest.raises(ValueError, match=f"digest is {changed.digest}"):
        source.stored()


def test_the_digest_sees_each_loss_and_no_order(curves):
    table = logs.table(README)
    digest = source.Logs(curves, table).digest
    assert source.Logs(curves[::-1], table).digest == digest
    moved = curves.assign(val_loss=curves.val_loss + 1e-5 * (curves.index == 3))
    assert source.Logs(moved, table).digest != digest
    assert source.Logs(curves, table.assign(n=3)).digest != digest


# --- what is said of the submissions


def test_every_submission_is_described_and_parents_come_first():
    assert list(ENTRIES) == list(range(1, 47))
    for number, entry in ENTRIES.items():
        assert entry.group in entries.GROUPS
        assert entry.parent in {0, *ENTRIES} - {number}
        assert bool(entry.parent) == bool(entry.change)
        assert entry.change in ("", *entries.CHANGES)
    assert len(entries.RECORDS) == 20
    assert len(entries.SUCCESSIONS) == 19


def test_groups_are_those_of_the_rules_in_the_registry():
    from symlab.symopt.registry import RULES

    named = {e.rule: e.group for e in ENTRIES.values() if e.rule not in ("", "adamw")}
    assert set(named) == {"spectral", "normuon"}
    for rule, group in named.items():
        assert entries.of_registry(RULES[rule]) == group
    assert entries.of_registry(RULES["sign"]) == "coordinate"  # as Adam's are


# --- statistics


def test_the_pooled_deviation_is_that_of_an_analysis_of_variance():
    draws = np.random.default_rng(0)
    x = [draws.normal(i, 2, size=n) for i, n in enumerate((1, 2, 9, 20))]
    deviation, freedom = judging.pooled(x)
    residual = np.concatenate([s - s.mean() for s in x])
    assert freedom == 28
    assert deviation == pytest.approx(math.sqrt(residual @ residual / 28))


def test_log_deviations_are_unbiased_with_their_variances():
    draws = np.random.default_rng(1)
    x = draws.normal(0, 3, size=(20_000, 5))
    values, variances = judging.log_deviations(x)
    assert values.mean() == pytest.approx(math.log(3), abs=0.01)
    assert values.var() == pytest.approx(variances[0], rel=0.03)


@pytest.mark.parametrize("tau", [0.0, 0.4])
def test_the_spread_of_deviations_is_covered(tau):
    draws = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        sizes = draws.integers(4, 20, size=30)
        x = [draws.normal(0, math.exp(tau * draws.normal()), size=n) for n in sizes]
        found = intervals.spread(x)
        inside += found.low <= tau <= found.high
    assert 180 <= inside <= 199  # 95 %, of log-normal deviations


def test_the_rules_error_is_its_p_value_at_the_assumed_deviation():
    draws = np.random.default_rng(3)
    x = [judging.ASSUMED * draws.normal(size=400) for _ in range(40)]
    found = intervals.rule_error(x)
    assert found.low < scipy_stats.norm.cdf(-0.004 / 0.0013) < found.high
    wide = [1.3 * s for s in x]
    assert intervals.rule_error(wide).low > 0.005
    assert intervals.deviation(wide).value == pytest.approx(1.3, rel=0.02)


def test_a_gain_counts_steps_at_the_rate_and_its_uncertainty():
    new, old = judging.Result(3.278, 10, 3000), judging.Result(3.279, 5, 3200)
    exact = judging.gain(new, old, judging.Noise(0.001, 10_000, 0.005, 0.0))
    assert exact["gain"] == pytest.approx(0.001 + 0.01)
    assert exact["uncertainty"] == pytest.approx(0.001 * math.sqrt(0.3))
    vague = judging.gain(new, old, judging.Noise(0.001, 10_000, 0.005, 0.005))
    assert vague["gain"] == exact["gain"]
    assert vague["uncertainty"] == pytest.approx(math.hypot(5.477e-4, 0.01), rel=1e-3)
    assert vague["needed"] == judging.MOST  # no number of runs makes up for the rate
    same = judging.gain(new, new, judging.Noise(0.001, 10_000, 0.005, 0.005))
    assert (same["gain"], same["p"], same["needed"]) == (0, 1, judging.MOST)


def test_the_runs_needed_have_the_power():
    noise = judging.Noise(0.001, 10_000, 0.005, 0.0)
    old, new = judging.Result(3.279, 8, 3000), judging.Result(3.2785, 8, 3000)
    n = judging.gain(new, old, noise)["needed"]
    draws = np.random.default_rng(4)
    means = draws.normal(0.0005, 0.001 * math.sqrt(2 / n), size=4000)
    zero = judging.Result(0.0, int(n), 0)
    p = [
        judging.gain(judging.Result(-mean, int(n), 0), zero, noise)["p"]
        for mean in means
    ]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.8, abs=0.02)


def test_a_slope_is_that_of_the_last_steps():
    steps = np.arange(0, 1001, 25)
    loss = np.where(steps < 850, 9.0, 3.3 - 4e-5 * (steps - 850))
    runs = pd.DataFrame({"trial": 0, "step": steps, "val_loss": loss})
    assert judging.slope(runs, 1000) == pytest.approx(0.004)
    assert math.isnan(judging.slope(runs[runs.step == 1000], 1000))


def test_rank_correlations_are_spearmans_and_cover():
    draws, inside = np.random.default_rng(5), 0
    true = 6 / math.pi * math.asin(0.6 / 2)  # of normal pairs with correlation 0.6
    for _ in range(300):
        x, e = draws.normal(size=(2, 45))
        found = intervals.rank_correlation(x, 0.6 * x + 0.8 * e)
        inside += found.low < true < found.high
    assert 276 <= inside <= 297
    with pytest.raises(ValueError, match="of -1 has no interval"):
        intervals.rank_correlation(range(9), range(9, 0, -1))


# --- the experiment


def made_up(n: int = 8) -> board.Board:
    draws = np.random.default_rng(6)
    rows = {}
    for entry in ENTRIES:
        losses = draws.normal(3.279, 0.001, size=n)
        steps = 3600 - 20 * entry
        rows[entry] = {
            "steps": steps,
            "published": losses.mean(),
            "published_n": n,
            "mean": losses.mean(),
            "n": n,
            "losses": list(losses),
        }
    noise = judging.Noise(0.001, 300, 0.005, 0.0)
    return board.Board(rows, noise, {"cost": 0.004, "uncertainty": 0.0, "runs": 16})


def test_halves_of_one_submission_are_covered_and_halves_are_disjoint():
    found = board.coverage(made_up(), np.random.default_rng(7), 40)
    assert found["covered"] == pytest.approx(0.95, abs=0.03)
    first, second = board._halved(np.random.default_rng(8), np.arange(9))
    assert sorted([*first, *second]) == list(range(9))
    assert len(first) == 4


def test_halves_judge_records_by_different_runs():
    found = board.halves(made_up(), np.random.default_rng(9))
    assert found["records"] == [r for r in entries.RECORDS[1:] if r not in (41, 42, 46)]
    assert found["gain_first"] != found["gain_second"]
    pair = board.pair(made_up(), 3, 1)
    saved = 0.4 * (0.005 - 0.004)  # two rates for 40 steps
    assert pair["gain"] - pair["gain_planned"] == pytest.approx(saved)


def test_absent_logs_are_named_and_committed_rows_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("SYMLAB_DATA", str(tmp_path))
    monkeypatch.delenv("SYMLAB_DOWNLOAD", raising=False)
    experiment = contract.load(PROJECT, "optimizer_leaderboard")
    assert experiment.lacks.startswith("needs leaderboard/curves.parquet and leader")
    assert "SYMLAB_DOWNLOAD=1" in experiment.lacks
    monkeypatch.setenv("SYMLAB_DOWNLOAD", "1")
    assert experiment.lacks == ""


def test_records_are_decided_after_holms_correction():
    rows = pd.DataFrame(
        [
            {"study": "pair", "entry": new, "other": old, "gain": 1.0, "p": p,
             "needed": 5.0}
            for (new, old), p in zip(
                entries.SUCCESSIONS, [0.001, 0.004, *[0.5] * 17], strict=True
            )
        ]
    )  # fmt: skip
    found = estimates.judged(rows)
    assert found.decided.tolist() == [True, *[False] * 18]  # 0.004 * 18 > 0.05
    assert estimates.share_decided("")(rows).value == pytest.approx(1 / 19)
    assert estimates.median_needed("")(rows).value == 5


def test_a_gain_vanishes_when_runs_are_shuffled_between_submissions():
    found = made_up()
    rows = [{"study": "entry", "entry": k, **row} for k, row in found.rows.items()]
    pair = {"study": "pair", "entry": 10, "other": 5, **board.pair(found, 10, 5)}
    df = pd.DataFrame([*rows, pair])
    gain = estimates.gain(10, 5)
    assert gain(df).value == pytest.approx(pair["gain"])
    shuffled = gain.placebo(df)
    values = [shuffled(draw).value for draw in range(40)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 40**0.5 < pair["gain"]
    assert estimates.gain(46, 45).placebo is None  # its logs lack the published loss


@pytest.mark.skipif(
    not (DATA / "curves.parquet").is_file(), reason="SYMLAB_DATA has no leaderboard/"
)
def test_the_public_logs_are_those_that_the_rows_were_made_from():
    found = source.read(DATA)
    assert found.digest == source.DIGEST
    assert found.curves.groupby(["log", "run"]).ngroups == 585
    table = found.entries.set_index("entry")
    assert tuple(table.index[table.record]) == entries.RECORDS
    for row in found.entries.itertuples():
        own = entries.runs(found.curves, row.log, row.steps, ENTRIES[row.entry])
        assert row.entry == 41 or own.trial.nunique() == row.n
