"""The source code of a sweep as one zip, for workers that share no file system with us.

It holds the Python files of the project's experiments, of every first-party package and
module that they reach, of symlab itself, and the files in DATA. A worker must have the
third-party packages (numpy, torch, ...), and nothing else.
"""

import io
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from symlab.harness import contract
from symlab.harness.project import Project
from symlab.harness.source import Finder


def pack(tasks: list[dict]) -> tuple[bytes, str]:
    """Return the zip of all source code that tasks need, and 16 hex digits of its hash.

    tasks: dicts with root (the project's folder) and name (the experiment).
    """
    files: dict[str, Path] = {}
    for root, name in sorted({(t["root"], t["name"]) for t in tasks}):
        files |= _files(Project(Path(root)), name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, path in sorted(files.items()):
            # a fixed time: equal source has equal bytes, hence one name
            entry = zipfile.ZipInfo(inside, (2000, 1, 1, 0, 0, 0))
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    return data, sha256(data).hexdigest()[:16]


def _files(project: Project, name: str) -> dict[str, Path]:
    """{path in the zip: file} of one experiment."""
    experiment = contract.load(project, name)
    finder, found = Finder(project.root), {}
    for top in sorted({"symlab", *(m.split(".")[0] for m in experiment.reached.files)}):
        module = finder.module(top)
        if module is None:
            continue
        sources = [(p, f.parent) for f in module.folders for p in f.rglob("*.py")]
        for path, above in sources or [(module.path, module.path.parent)]:
            if path.is_relative_to(project.root):
                found[f"project/{path.relative_to(project.root)}"] = path
            else:
                found[f"lib/{path.relative_to(above)}"] = path
    for data in getattr(experiment.module, "DATA", ()):
        found[f"project/{data}"] = project.root / data
    return found


def carrier() -> Callable[[bytes, str, dict | None], tuple[str, list[dict]]]:
    """Return a function (zip, its hash, task) that a worker without symlab can call.

    The function unpacks the zip, once for each machine and version of the source. It
    returns how the task ended and its results, as `children.Child.ended` does; if the
    task is None, it kills the worker's processes and returns None. It is defined inside
    this function so that it is pickled by value.
    """

    def call(data, digest, task):
        import importlib.util
        import io
        import os
        import shutil
        import sys
        import tempfile
        import zipfile
        from pathlib import Path

        def whole(folder, archive):
            return all(
                (folder / i.filename).is_file()
                and (folder / i.filename).stat().st_size == i.file_size
                for i in archive.infolist()
            )

        def unpacked():
            base = Path(tempfile.gettempdir()) / f"symlab-{os.getuid()}"
            base.mkdir(mode=0o700, exist_ok=True)
            if base.is_symlink() or base.stat().st_uid != os.getuid():
                raise PermissionError(f"{base} belongs to somebody else: remove it")
            folder = base / digest
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if folder.is_dir() and whole(folder, archive):
                    return folder
                fresh = Path(tempfile.mkdtemp(dir=base, prefix=f"{digest}-"))
                archive.extractall(fresh)
                try:
                    fresh.rename(folder)
                except OSError:  # another worker was faster, or its files are damaged
                    if not whole(folder, archive):
                        return fresh
                    shutil.rmtree(fresh)
            return folder

        name = f"_symlab_crew_{digest}"
        if task is None:
            module = sys.modules.pop(name, None)  # another call has a crew of its own
            if module is not None:
                module.crew.stop()
            return None
        module = sys.modules.get(name)
        if module is None:
            folder = unpacked()
            (file,) = folder.glob("*/symlab/harness/children.py")
            spec = importlib.util.spec_from_file_location(name, file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.crew = module.Guests(folder)
            module = sys.modules.setdefault(name, module)  # one for all threads
        return module.crew.call(task)

    return call
