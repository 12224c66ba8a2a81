"""The folders of a project, which is a folder that contains `experiments/`."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from symlab.harness.errors import UserError


@dataclass(frozen=True)
class Project:
    """The folders of one project.

    root: the project's folder, which contains `experiments/`.

    Environment variables (SYMLAB_RESULTS, SYMLAB_FIGURES) can move the folders of
    results and figures.
    """

    root: Path

    @property
    def experiments(self) -> Path:
        """The folder of the experiment files."""
        return self.root / "experiments"

    @property
    def results(self) -> Path:
        """The folder of the result rows: SYMLAB_RESULTS, or results/ in the project."""
        return Path(os.environ.get("SYMLAB_RESULTS") or self.root / "results")

    @property
    def figures(self) -> Path:
        """The folder of the figures: SYMLAB_FIGURES, or figures/ in the project."""
        return Path(os.environ.get("SYMLAB_FIGURES") or self.root / "figures")

    @property
    def reference(self) -> Path:
        """The folder of the committed result rows, results/reference.

        On a new machine these rows also give the first estimate of how long runs take.
        """
        return self.root / "results" / "reference"

    def command(self, words: str) -> str:
        """Return a command of symlab as users of this project type it.

        words: the command, such as 'lock'.

        It is 'make lock' if the project's Makefile has this target, else 'python -m
        symlab lock'.
        """
        file = self.root / "Makefile"
        text = file.read_text("utf-8", "replace") if file.is_file() else ""
        known = re.search(rf"^{re.escape(words)}:", text, re.MULTILINE)
        return f"make {words}" if known else f"python -m symlab {words}"


class Committed(Project):
    """A project whose result rows are the committed ones, in place of those under
    results/.
    """

    @property
    def results(self) -> Path:
        """The folder of the committed result rows, results/reference."""
        return self.reference


def above(start: Path | None = None) -> Project | None:
    """Return the project of a folder, or of the nearest folder above it; None if none
    is.

    start: the folder to begin with, by default the working directory. A project's
        folder contains `experiments/`.
    """
    here = Path(start or os.getcwd()).resolve()
    found = (f for f in (here, *here.parents) if (f / "experiments").is_dir())
    return next(map(Project, found), None)


def find(start: Path | None = None) -> Project:
    """Return the project of a folder or of the nearest one above it, else symlab's own.

    start: the folder to begin with, by default the working directory. A project's
        folder contains `experiments/`.

    Raises UserError if there is none, for instance because symlab was installed without
    its own experiments.
    """
    home = Project(Path(__file__).resolve().parents[2])
    if found := above(start) or (home if home.experiments.is_dir() else None):
        return found
    raise UserError(
        f"no experiments folder in {Path(start or os.getcwd()).resolve()} or above it: "
        "change to the project's folder, or begin one with `symlab new NAME`"
    )
