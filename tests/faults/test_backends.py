"""One job, two, dask and ray make the same table but for times and the host."""

import pandas as pd
import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

FREE = ["wall_s", "finished", "cpu", "blas", "system", "lanes"]  # lanes: by the jobs


def table(sandbox, words: str) -> pd.DataFrame:
    name = words.replace(" ", "")
    done = sandbox("run", "line", *words.split(), SYMLAB_RESULTS=f"results-{name}")
    assert done.returncode == 0, done.stderr
    file = sandbox.root / f"results-{name}" / "quick" / "line.parquet"
    there = {p.name for p in file.parent.rglob("*") if p.is_file()}
    assert there - {".lock"} == {file.name}, "a file was left"
    rows = pd.read_parquet(file).drop(columns=FREE)
    return rows.sort_values("key", ignore_index=True)


@pytest.mark.long
def test_two_jobs_dask_and_one_job_make_the_same_table(sandbox):
    one = table(sandbox, "--jobs 1")
    assert len(one) == 12
    pd.testing.assert_frame_equal(one, table(sandbox, "--jobs 2"))
    pd.testing.assert_frame_equal(one, table(sandbox, "--jobs 2 --backend dask"))


@pytest.mark.long
def test_ray_makes_the_same_table(sandbox):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    one = table(sandbox, "--jobs 1")
    pd.testing.assert_frame_equal(one, table(sandbox, "--jobs 2 --backend ray"))
