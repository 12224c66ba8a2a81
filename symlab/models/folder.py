"""Folders of weights: written completely or not at all, read one tensor at a time.

Weights are in safetensors' format (https://github.com/huggingface/safetensors): names,
shapes and numbers, and no code that a program would run.
"""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights in several files
UNFINISHED = ".unfinished"  # ends the name of a folder that is being written
LEFT_S = 3600.0  # without a change in so many seconds its process is gone


@contextmanager
def whole(directory: str | Path) -> Iterator[Path]:
    """Return a context that yields a temporary folder, which becomes `directory` at its
    end.

    The folder's files are on the disk before it gets that name; a directory that was
    there is deleted afterwards. If anything stops the context before, the old directory
    stays or is put back. Raises OSError with one sentence if something cannot be
    written.

    The temporary folder of a killed process is deleted by the first call that finds it
    untouched for an hour.
    """
    target = Path(directory).resolve()  # a link to a folder stays one
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(target)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=UNFINISHED, dir=target.parent
        ) as scratch:
            made, old = Path(scratch, "new"), Path(scratch, "old")
            made.mkdir()
            yield made
            for file in [*made.iterdir(), made]:
                sync(file)
            try:
                if target.exists():
                    target.rename(old)
                made.rename(target)
            except BaseException:
                if old.exists() and not target.exists():
                    old.rename(target)
                raise
            sync(target.parent)
    except OSError as error:
        raise OSError(
            f"{directory} could not be written ({error.strerror or error}): make room "
            "or name another folder"
        ) from None


def _clear_leftovers(target: Path) -> None:
    """Delete what killed calls for this target left beside it, and nothing else.

    What holds the only copy of earlier weights stays: it was killed between two renames
    and the target is absent.
    """
    ours = re.compile(
        rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}{re.escape(UNFINISHED)}"
    )
    for found in target.parent.iterdir():
        if not ours.fullmatch(found.name) or found.is_symlink():
            continue
        try:
            touched = max(p.stat().st_mtime for p in (found, *found.rglob("*")))
        except OSError:  # another process has just ended or cleared it
            continue
        needed = (found / "old").exists() and not target.exists()
        if time.time() - touched > LEFT_S and not needed:
            shutil.rmtree(found, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the list of names of a folder, is on the
    disk.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors by name into a folder as its safetensors file of weights.

    tensors: on the CPU and contiguous. Raises OSError if they cannot be written.
    """
    try:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:  # its own, of a disk that is full, too
        raise OSError(str(error)) from None


def write_json(file: Path, content) -> None:
    """Write an object to a file as JSON, indented by two spaces, in UTF-8."""
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(file: Path) -> dict:
    """Return the JSON object in a file.

    Raises ValueError with one sentence if the file is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no JSON object; write it anew")
    return content


class Weights:
    """The weights in a folder, by name, from one or several safetensors files.

    Several files need an index file that says in which of them each weight is. Raises
    FileNotFoundError or ValueError if files are absent or damaged.
    """

    def __init__(self, folder: Path):
        """Raises FileNotFoundError or ValueError where files are absent or damaged."""
        if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
            places = read_json(folder / INDEX).get("weight_map")
            names = places.values() if isinstance(places, dict) else (None,)
            if not all(isinstance(name, str) for name in names):
                raise ValueError(
                    f"{folder / INDEX} is damaged: its weight_map names no file for "
                    "each weight; copy it anew"
                )
            files = {folder / file for file in places.values()}
        else:
            files = {folder / WEIGHTS}
        self.place = {}
        for file in sorted(files):
            opened = _opened(file)
            self.place |= dict.fromkeys(opened.keys(), opened)

    def __contains__(self, name: str) -> bool:
        return name in self.place

    def __iter__(self) -> Iterator[str]:
        return iter(self.place)

    def __getitem__(self, name: str) -> Tensor:
        """Raises ValueError for a name that is not there."""
        if name not in self.place:
            raise ValueError(missing(name))
        return self.place[name].get_tensor(name)


def missing(name: str) -> str:
    """Return the error message for a weight that none of the files has.

    name: of the weight.
    """
    return (
        f"the weight {name} is missing: configuration and weights are not of one "
        "model, or a file of the weights is absent"
    )


def _opened(file: Path):
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: copy the folder again with all its files, or write "
            "its weights as safetensors"
        )
    try:
        return safe_open(file, "pt")
    except SafetensorError as error:
        raise ValueError(
            f"{file} is damaged ({error}): copy or write it anew"
        ) from None
