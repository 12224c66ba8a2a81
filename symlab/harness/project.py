"""Where things lie. A project is a folder with an `experiments/` folder in it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from symlab.harness.errors import UserError


@dataclass(frozen=True)
class Project:
    """The folders of one project; outputs can be moved by environment variables."""

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

        On a new machine they also give the first estimate of how long runs take.
        """
        return self.root / "results" / "reference"

    def command(self, words: str) -> str:
        """Return a command of symlab as users of this project type it: 'make lock'
        where a Makefile there has this target, else 'python -m symlab lock'.
        """
        file = self.root / "Makefile"
        text = file.read_text("utf-8", "replace") if file.is_file() else ""
        known = re.search(rf"^{re.escape(words)}:", text, re.MULTILINE)
        return f"make {words}" if known else f"python -m symlab {words}"


class Committed(Project):
    """The same project with its committed rows in place of those under results/."""

    @property
    def results(self) -> Path:
        """The folder of the committed result rows, results/reference."""
        return self.reference


def above(start: Path | None = None) -> Project | None:
    """Return the project of the nearest folder upwards of `start` that holds
    `experiments/`, None where there is none.

    start: by default the working directory.
    """
    here = Path(start or os.getcwd()).resolve()
    found = (f for f in (here, *here.parents) if (f / "experiments").is_dir())
    return next(map(Project, found), None)


def find(start: Path | None = None) -> Project:
    """Return the project of the nearest folder upwards of `start` that holds
    `experiments/`, else symlab's own.

    start: by default the working directory. Raises UserError where there is none, as
    where symlab was installed without its own experiments.
    """
    home = Project(Path(__file__).resolve().parents[2])
    if found := above(start) or (home if home.experiments.is_dir() else None):
        return found
    raise UserError(
        f"no experiments folder in {Path(start or os.getcwd()).resolve()} or above it: "
        "change to the project's folder, or begin one with `symlab new NAME`"
    )
