"""Edits that change what run returns change its key; edits that cannot, do not."""

import pytest

from symlab.harness import code
from tests import code_edits as cases

CHANGES, HARMLESS = cases.read("change"), cases.read("harmless")
MISSED = cases.read("missed")


def key(root) -> str:
    return code.reach(root, "experiments.e", ["run"]).code


def tried(root, case):
    """(result, key) before and after the edits of a case."""
    files, edits = case
    cases.write(root, files)
    before = cases.play(root), key(root)
    cases.edit(root, edits)
    return before, (cases.play(root), key(root))


@pytest.mark.parametrize("name", CHANGES)
def test_an_edit_that_changes_the_result_changes_the_key(tmp_path, name):
    (result, before), (other, after) = tried(tmp_path, CHANGES[name])
    assert result != other, f"the edit changes no result: {result}"
    assert "Error" not in result, result
    assert before != after


@pytest.mark.long
@pytest.mark.xfail(strict=True, reason="known: docs/harness.md says that it is unseen")
@pytest.mark.parametrize("name", MISSED)
def test_an_edit_that_keys_are_known_to_miss(tmp_path, name):
    """It goes red when keys come to see the edit: then move it to code_edits.txt."""
    (result, before), (other, after) = tried(tmp_path, MISSED[name])
    assert result == other or before != after


@pytest.mark.parametrize("name", HARMLESS)
def test_an_edit_that_changes_no_result_keeps_the_key(tmp_path, name):
    (result, before), (other, after) = tried(tmp_path, HARMLESS[name])
    assert result == other
    assert "Error" not in result, result
    assert before == after


def test_there_are_enough_edits():
    assert len(CHANGES) >= 150
    assert len(HARMLESS) >= 40
