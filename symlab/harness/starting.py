"""Writes a new experiment file from the template that is part of the package."""

import keyword
import re
from pathlib import Path

from symlab.harness import contract
from symlab.harness.errors import UserError
from symlab.harness.project import Project, above

TEMPLATE = Path(__file__).parents[1] / "template.py"


def write(name: str, start: Path | None = None) -> Path:
    """Write experiments/NAME.py, an experiment that runs as it is; return its path.

    name: of the experiment.
    start: a folder in the project, by default the working directory. If it is in no
        project, the folder experiments/ is made in it.

    Raises UserError for a name that no experiment can have, or that is taken.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"an experiment cannot be named {name!r}, as it is imported by that name: "
            "use a letter, then letters, digits and underscores"
        )
    project = above(start) or Project(Path(start or Path.cwd()).resolve())
    path = project.experiments / f"{name}.py"
    if name in contract.figures(project) and not path.exists():
        raise UserError(f"there is a figure {name!r} already: choose another name")
    text = TEMPLATE.read_text().replace('@figure("template")', f'@figure("{name}")')
    try:
        project.experiments.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} is there already: choose another name") from None
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}): change to a folder that can be "
            "written"
        ) from None
    return path
