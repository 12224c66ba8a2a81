"""Where things lie. A project is a folder with an `experiments/` folder in it."""

import os
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


class Committed(Project):
    """The same project with its committed rows in place of those under results/."""

    @property
    def results(self) -> Path:
        """The folder of the committed result rows, results/reference."""
        return self.reference


def find(start: Path | None = None) -> Project:
    """Return the project of the nearest folder upwards of `start` that holds
    `experiments/`, else symlab's own.

    start: by default the working directory. Raises UserError where there is none.
    """
    here = Path(start or os.getcwd()).resolve()
    home = Path(__file__).resolve().parents[2]
    for folder in (here, *here.parents, home):
        if (folder / "experiments").is_dir():
            return Project(folder)
    raise UserError(
        f"no experiments folder in {here} or above it: change to the project's folder"
    )
