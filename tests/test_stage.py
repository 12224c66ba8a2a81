"""Stages that runs share: one computation, a key of code and arguments, whole files."""

import importlib
import multiprocessing
import sys

import numpy as np
import pytest

from symlab.harness import Context, stage

SOURCE = """
import numpy as np
from pathlib import Path

FACTOR = 2.0
UNUSED = 1


def doubled(n, seed, log):
    with Path(log).open("a") as file:
        file.write("computed ")
    return {"x": FACTOR * np.arange(n) + seed, "sign": np.array(["+", "-"])}


def listed(n, seed, log):
    return {"x": [1.0]}
"""


class Shop:
    """A module of a project of its own, and a context that keeps its stages."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder / "log"
        self.write(SOURCE)

    def write(self, source: str) -> None:
        (self.folder / "shop.py").write_text(source)
        sys.modules.pop("shop", None)
        importlib.invalidate_caches()

    @property
    def context(self) -> Context:
        return Context(stages=self.folder / "stages", root=self.folder)

    def shared(self, function: str = "doubled", n: int = 5, seed: int = 1):
        function = getattr(importlib.import_module("shop"), function)
        return self.context.shared(function, n=n, seed=seed, log=str(self.log))

    @property
    def computed(self) -> int:
        return self.log.read_text().count("computed") if self.log.exists() else 0

    @property
    def files(self) -> list:
        return sorted((self.folder / "stages").iterdir())


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Shop(tmp_path)
    sys.modules.pop("shop", None)


def test_a_stage_is_computed_once_and_read_bit_for_bit(shop):
    first, second = shop.shared(), shop.shared()
    assert shop.computed == 1
    assert list(first) == list(second) == ["x", "sign"]
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        np.testing.assert_array_equal(array, second[name])


def test_other_arguments_are_another_stage(shop):
    shop.shared()
    assert shop.shared(seed=2)["x"][0] == 2
    assert len(shop.shared(n=6)["x"]) == 6
    assert shop.computed == len(shop.files) == 3


def test_other_code_is_another_stage_and_unused_code_is_not(shop):
    shop.shared()
    shop.write(SOURCE.replace("UNUSED = 1", "UNUSED = 2"))
    shop.shared()
    assert shop.computed == 1
    shop.write(SOURCE.replace("FACTOR = 2.0", "FACTOR = 3.0"))
    assert shop.shared()["x"][1] == 4
    assert shop.computed == 2


def test_other_versions_of_packages_are_another_stage(shop, monkeypatch):
    shop.shared()
    monkeypatch.setattr("symlab.harness.code._version", lambda name: "99.9")
    shop.shared()
    assert shop.computed == 2


def damages(data: bytes) -> list[bytes]:
    flips = np.random.default_rng(0).integers(0, len(data), 40)
    flipped = [data[:i] + bytes([data[i] ^ 16]) + data[i + 1 :] for i in flips]
    return [b"", data[:20], data[:100], data[:-1], data + b"x", *flipped]


def test_a_damaged_file_is_noticed_and_made_again(shop):
    shop.shared()
    (file,) = shop.files
    whole = file.read_bytes()
    for n, damaged in enumerate(damages(whole)):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(shop.shared()["x"], 2 * np.arange(5) + 1)
        assert shop.computed == n + 2
        assert file.read_bytes() == whole


def test_processes_may_compute_the_same_stage_at_once(shop):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(shop.shared, [("doubled", 1000, 3)] * 8, chunksize=1)
    for arrays in found:
        np.testing.assert_array_equal(arrays["x"], 2 * np.arange(1000) + 3)
    assert len(shop.files) == 1  # no temporary file is left


def test_a_disk_that_takes_no_file_does_not_lose_the_result(shop):
    (shop.folder / "stages").write_text("a file where the folder belongs")
    assert shop.shared()["x"][0] == 1
    assert shop.shared()["x"][0] == 1
    assert shop.computed == 2


def test_without_a_folder_a_stage_is_computed_every_time(shop, monkeypatch):
    monkeypatch.setattr(Shop, "context", Context())
    shop.shared(), shop.shared()
    assert shop.computed == 2
    assert not (shop.folder / "stages").exists()


def test_arguments_and_results_that_cannot_be_kept_are_refused(shop):
    with pytest.raises(TypeError, match="gets n = array.*use an int"):
        shop.shared(n=np.arange(2))
    with pytest.raises(TypeError, match="returns 'x' as a list: return arrays"):
        shop.shared("listed")
    assert not (shop.folder / "stages").exists()


def test_a_key_does_not_depend_on_the_order_of_arguments(shop):
    function = importlib.import_module("shop").doubled
    one = stage.key(shop.folder, function, {"n": 1, "seed": 2})
    assert one == stage.key(shop.folder, function, {"seed": 2, "n": 1})
    assert one != stage.key(shop.folder, function, {"seed": 1, "n": 2})
