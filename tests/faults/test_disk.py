"""A disk that is full, and bytes that change: one sentence, no row lost."""

import random
import subprocess
import sys

import pandas as pd
import pytest

from tests.conftest import SIMPLE

SIZED = SIMPLE.replace('[{"y":', '[{"text": noise(c), "y":').replace(
    "def run(", "def noise(c):\n    return rng.stream(c.seed, 'n').bytes(4000).hex()\n"
    "\n\ndef run("
).replace("LANES = 4", "LANES = 1").replace("    return [{", "    PAUSE\n    return [{")
SIZED = SIZED.replace("PAUSE", "__import__('time').sleep(0.06)")  # a part for each
SCRIPT = """
mkdir -p small
mount -t tmpfs -o size={size} small small || exit 77
'{python}' -m symlab {words}
echo "status $?"
ls -A small small/quick small/quick/.line.parts 2>/dev/null | sed 's/^/left /'
mount -o remount,size=64m small
'{python}' -m symlab {words}
echo "again $?"
ls -A small small/quick 2>/dev/null | grep tmp | sed 's/^/temporary /'
cp -r small large
"""


def on_a_small_disk(sandbox, size: str, words: str, variable: str):
    """The command on a disk of that size, and again on a large one."""
    script = SCRIPT.format(size=size, words=words, python=sys.executable)
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=sandbox.root,
        env=sandbox.env(**{variable: str(sandbox.root / "small")}),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system does not let its users mount a small disk")
    return done


@pytest.mark.parametrize(
    "size",
    [
        pytest.param("40k", id="parts"),
        pytest.param("96k", id="packing", marks=pytest.mark.long),
    ],
)
def test_a_disk_that_is_full_keeps_what_is_written(sandbox, size):
    sandbox.write("experiments/line.py", SIZED)
    done = on_a_small_disk(sandbox, size, "run line --jobs 1", "SYMLAB_RESULTS")
    assert "status 2" in done.stdout, done.stderr
    assert done.stderr.count("No space left on device") == 1
    assert "Traceback" not in done.stderr
    assert ".tmp" not in done.stdout
    assert "again 0" in done.stdout
    again = done.stdout.split("status 2")[1]
    fresh = int(again.split(" fresh")[0].split()[-1])
    assert 0 < fresh <= 12, "the rows that were written before are lost"
    rows = pd.read_parquet(sandbox.root / "large" / "quick" / "line.parquet")
    assert len(rows) == 12
    assert rows.key.is_unique


@pytest.mark.long
def test_a_disk_that_is_full_when_drawing(sandbox):
    done = on_a_small_disk(sandbox, "12k", "fig line --jobs 1", "SYMLAB_FIGURES")
    assert "status 2" in done.stdout, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert ".tmp" not in done.stdout
    assert "again 0" in done.stdout
    assert len(sandbox.rows()) == 12
    drawn = {p.name for p in (sandbox.root / "large").iterdir()}
    assert drawn == {"line.pdf", "line.png", "line.json"}


@pytest.mark.long
def test_no_flipped_bit_is_believed(sandbox):
    """In the packed file and in a part: the runs are made again, and no value is
    wrong.
    """
    sandbox("run", "line")
    file = sandbox.root / "results" / "quick" / "line.parquet"
    good, first = file.read_bytes(), sandbox.rows().set_index("key").y
    draws = random.Random(0)
    for i in range(8):
        data = bytearray(good)
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
        part = file.parent / ".line.parts" / "000000001-0123456789abcdef.parquet"
        if i % 2:
            file.unlink()
        (part if i % 2 else file).write_bytes(data)
        done = sandbox("run", "line", "--jobs", 1)
        assert done.returncode == 0, done.stderr
        assert "is damaged" in done.stderr
        rows = sandbox.rows().set_index("key").y
        assert len(rows) == 12
        assert (rows[first.index] == first).all()
