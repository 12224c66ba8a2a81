"""Where texts come from: the installed Python source, data sets, folders, FineWeb-Edu.

Every reader gives texts as iterables of strings, so that a file of any size is read in
blocks.
"""

import codecs
import io
import itertools
import json
import os
import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from hashlib import sha256
from pathlib import Path

from symlab.harness.errors import nearest

NAMES = ("stdlib", "site", "tinyshakespeare", "wikitext2", "fineweb-edu")
INSTALLED = ("stdlib", "site")
LONGEST = 16_000  # characters; longer texts are cut, or one file decides the validation
SCENE = 4_000  # of Shakespeare, who comes as one text of a megabyte
BLOCK = 2**20  # bytes or characters read at once
EXAMPLES = 5  # names kept of files that are not UTF-8
# tests are left out because many distributions of Python do; config-* and
# _sysconfigdata* record how this machine's Python was built
SKIPPED = re.compile(
    r"__pycache__|site-packages|dist-packages|tests?|idle_test|config-.*|_sysconfigdata.*"
)
TITLE = re.compile(r" = [^=\n].*[^=\n] = ?\n?")  # " = = " are sections
JSON_LINES = tuple(
    kind + zipped for kind in (".jsonl", ".ndjson") for zipped in ("", ".gz", ".zst")
)


@dataclass
class Reading:
    """A record of reading a text's files: which were left out, how many bytes were
    read.

    not_utf8, binary, examples: numbers and names of files that were left out, as in
        `Corpus`.
    before, inside: bytes of the files that were read completely, and bytes read so far
        of the present file.
    """

    not_utf8: int = 0
    binary: int = 0
    examples: list[str] = field(default_factory=list)
    before: int = 0
    inside: int = 0

    def leave_out(self, name: str) -> None:
        self.not_utf8 += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(name)


@dataclass(frozen=True)
class Source:
    """A text that can be read, and that can be identified without reading it.

    name: the name of the text, without paths of this machine.
    size: the number of characters of the pieces into which the text is cut.
    place: where the text lies on this machine.
    texts: a function that yields the texts, each as an iterable of strings; it records
        in its argument, a `Reading`, what is left out.
    files: {relative name: path} in the order of reading; empty for a streamed text.
    """

    name: str
    size: int
    place: str
    texts: Callable[[Reading], Iterator[Iterable[str]]]
    files: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def state(self) -> tuple[str, float, int]:
        """The state of the files: (hash of their names, sizes and times; time of the
        latest
        change in seconds; total size in bytes).
        """
        named, last, total = sha256(), 0.0, 0
        for name, path in self.files.items():
            about = path.stat()
            times = about.st_mtime_ns, about.st_ctime_ns
            named.update(repr((name, about.st_size, *times)).encode())
            last = max(last, *(t / 1e9 for t in times))
            total += about.st_size
        return named.hexdigest(), last, total


def find(name: str, limit: int | None) -> Source:
    """Return the text of that name, or at that path, as a `Source`.

    limit: the number of bytes that will be read, which a streamed text needs.

    Raises ValueError for an unknown name and FileNotFoundError for a data set that is
    not there.
    """
    if name in INSTALLED:
        return _installed(name)
    if name == "tinyshakespeare":
        files = _stored(name, "input.txt")
        return Source(name, SCENE, _place(files), partial(_all, files), files)
    if name.startswith("wikitext"):
        files = _stored(name, "*")
        return Source(name, LONGEST, _place(files), partial(_wikitext, files), files)
    if name == "fineweb-edu":
        return Source(name, LONGEST, name, partial(_fineweb, limit))
    if name and Path(name).exists():
        hidden = re.compile(r"__pycache__|\..*")
        return _folder(Path(name).resolve().name, [name], ("",), hidden)
    known = nearest(name, NAMES, "text")
    raise ValueError(f"{known}, or the path of a file or folder of text")


@cache
def _installed(name: str) -> Source:
    """Looked for once, as it is taken not to change while Python runs."""
    paths = sysconfig.get_paths()
    if name == "stdlib":
        suffixes = (".py", ".txt", ".rst")
        return _folder(name, [paths["stdlib"]], suffixes, SKIPPED)
    roots = sorted({paths["purelib"], paths["platlib"]})
    return _folder(name, roots, (".py",), re.compile("__pycache__"))


def _folder(name: str, roots: list[str], suffixes: tuple, skipped: re.Pattern):
    """The files below, in the order of a hash of their relative paths."""
    found = {}
    for root in map(Path, roots):
        if root.is_file():
            found[root.name] = root
            continue
        for folder, files in _walk(root, skipped):
            for file in files:
                path = Path(folder, file)
                wanted = file.endswith(suffixes) and not skipped.fullmatch(file)
                if wanted and path.is_file():  # not a dangling link or a socket
                    found.setdefault(path.relative_to(root).as_posix(), path)
    order = sorted(found, key=lambda path: sha256(os.fsencode(path)).digest())
    files = {relative: found[relative] for relative in order}
    place = " ".join(str(Path(root).resolve()) for root in roots)
    return Source(name, LONGEST, place, partial(_all, files), files)


def _walk(root: Path, skipped: re.Pattern) -> Iterator[tuple[str, list[str]]]:
    """Folders below, each once, also behind links, with their files.

    Raises PermissionError for a folder that cannot be read.
    """

    def stop(error: OSError):
        raise error

    seen: set[str] = set()
    for folder, inner, files in os.walk(root, onerror=stop, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:  # a link back
            inner.clear()
            continue
        seen.add(place)
        inner[:] = sorted(name for name in inner if not skipped.fullmatch(name))
        yield folder, files


def _stored(name: str, pattern: str) -> dict[str, Path]:
    """A data set's files, raw or Parquet."""
    folder = Path(os.environ.get("SYMLAB_DATA") or "data") / name
    paths = sorted(folder.rglob(pattern)) or sorted(folder.rglob("*.parquet"))
    if not paths:
        raise FileNotFoundError(
            f"no text at {folder / pattern}: set SYMLAB_DATA to a folder with {name}/"
        )
    return {str(path.relative_to(folder)): path for path in paths if path.is_file()}


def _place(files: dict[str, Path]) -> str:
    return str(next(iter(files.values())).parent.resolve())


def _all(files: dict[str, Path], reading: Reading) -> Iterator[Iterable[str]]:
    for name, path in files.items():
        yield from _read(name, path, reading)
        reading.before += path.stat().st_size
        reading.inside = 0


def _wikitext(files: dict[str, Path], reading: Reading) -> Iterator[Iterable[str]]:
    """The articles of each file; what precedes its first title is left out."""
    for file in files.items():
        lines = _lines(itertools.chain.from_iterable(_all(dict([file]), reading)))
        article = None
        for line in lines:
            if TITLE.fullmatch(line):
                if article:
                    yield article
                article = []
            if article is not None:
                article.append(line)
        if article:
            yield article


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    """Lines of a text, each with its \\n, which blocks may cut anywhere."""
    rest = ""
    for block in blocks:
        *whole, rest = (rest + block).split("\n")
        yield from (line + "\n" for line in whole)
    if rest:
        yield rest


# --- files ---------------------------------------------------------------------------


def _read(name: str, path: Path, reading: Reading) -> Iterator[Iterable[str]]:
    """The texts of a file; of one that is no text, nothing."""
    if path.suffix.lower() == ".parquet":
        yield from _parquet(name, path, reading)
    elif path.name.lower().endswith(JSON_LINES):
        yield from _json_lines(name, path, reading)
    elif _is_text(name, path, reading):
        yield _blocks(path, reading)


def _is_text(name: str, path: Path, reading: Reading) -> bool:
    """Whether the file is UTF-8 to its end, before a part of it is taken."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    with path.open("rb") as file:
        try:
            while block := file.read(BLOCK):
                if b"\0" in block:
                    reading.binary += 1
                    return False
                decode(block)
            decode(b"", final=True)
        except UnicodeDecodeError:
            reading.leave_out(name)
            return False
    return True


def _blocks(path: Path, reading: Reading) -> Iterator[str]:
    """A file's text, line ends as \\n."""
    with path.open(encoding="utf-8-sig") as file:
        while block := file.read(BLOCK):
            yield block
            reading.inside = file.buffer.tell()


def _parquet(name: str, path: Path, reading: Reading) -> Iterator[list[str]]:
    import pyarrow.parquet as pq

    with _undamaged(name), pq.ParquetFile(path) as file:
        if "text" not in file.schema_arrow.names:
            raise ValueError(f"{name} has no column 'text': rename its column of text")
        size, rows = path.stat().st_size, max(file.metadata.num_rows, 1)
        for part in file.iter_batches(batch_size=1024, columns=["text"]):
            for text in _decoded(part["text"], name, reading):
                yield [_checked(text, name)]
            reading.inside += size * len(part) // rows


def _decoded(values, name: str, reading: Reading) -> list:
    """Python values of a column, without null and without text that is not UTF-8."""
    try:
        return [text for text in values.to_pylist() if text is not None]
    except UnicodeDecodeError:
        found = []
    for value in values:
        try:
            found.append(value.as_py())
        except UnicodeDecodeError:
            reading.leave_out(f"a row of {name}")
    return [text for text in found if text is not None]


@contextmanager
def _undamaged(name: str) -> Iterator[None]:
    """Raise ValueError with the file's name where its compressed content is damaged."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ValueError(
            f"{name} is damaged ({error}): copy it again, or leave it out"
        ) from None


def _json_lines(name: str, path: Path, reading: Reading) -> Iterator[list[str]]:
    with _undamaged(name), path.open("rb") as raw:
        for number, line in enumerate(_decompressed(raw, path.suffix.lower()), 1):
            reading.inside = raw.tell()
            where = f"{name}:{number}"
            try:
                text = _field(line.decode("utf-8-sig"), where)
                text.encode()  # half of a surrogate pair may be escaped in JSON
            except UnicodeError:
                reading.leave_out(where)
            else:
                yield [text]


def _decompressed(raw, suffix: str) -> Iterable[bytes]:
    if suffix not in (".gz", ".zst"):
        return raw
    import pyarrow as pa

    kind = {".gz": "gzip", ".zst": "zstd"}[suffix]
    return io.BufferedReader(pa.CompressedInputStream(raw, kind))


def _field(line: str, where: str) -> str:
    """The field `text` of a line of JSON, which may be empty or null."""
    if not line.strip():
        return ""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # also of numbers and nesting without end
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"{where} is no JSON object: write one per line, with a text")
    if "text" not in row:
        known = ", ".join(row) or "none"
        raise ValueError(
            f"{where} has no field 'text', and its fields are: {known}; rename the one "
            "that holds the text"
        )
    return "" if row["text"] is None else _checked(row["text"], where)


def _checked(text, where: str) -> str:
    if not isinstance(text, str):
        kind = type(text).__name__
        raise ValueError(f"the field 'text' of {where} is {kind}: it must be a string")
    return text


def _fineweb(limit: int | None, reading: Reading) -> Iterator[list[str]]:
    """The 10-billion-token sample of FineWeb-Edu, in its own order."""
    if limit is None:
        raise ValueError(
            "fineweb-edu has 10 billion tokens: say how many bytes, as limit=10**8"
        )
    try:
        from datasets import load_dataset
    except ImportError:
        raise ModuleNotFoundError(
            "fineweb-edu needs Hugging Face datasets: pip install datasets"
        ) from None
    try:
        rows = load_dataset(
            "HuggingFaceFW/fineweb-edu", "sample-10BT", split="train", streaming=True
        )
        for row in rows:
            yield [row["text"]]
    except Exception as error:  # each layer below has its own for "offline"
        raise ConnectionError(
            f"fineweb-edu could not be streamed ({type(error).__name__}): go online, "
            "or use the text 'stdlib' or 'site'"
        ) from error
