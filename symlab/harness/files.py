"""Parquet files that are written completely or not at all, and checked for damage.

A checksum, the SHA-256 of all other bytes, stands between the last page and the footer.
Parquet finds its footer from the end and its pages from the start, so every reader can
open the file. A temporary file is locked by the process that writes it; the system
releases the lock when that process dies, so a temporary file without a lock may be
removed.
"""

import fcntl
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from symlab.harness.errors import UserError

MARK = b"\x91symlab.sha256\x17\xd2\x05"  # before the 32 bytes of the digest


def write_table(table: pa.Table, path: Path, durable: bool = False) -> None:
    """Write a table as a Parquet file that contains a checksum of itself.

    durable: whether to wait until the bytes are on the disk.

    The file is written completely or not at all.
    """
    write(pieces_of(table), path, durable)


def pieces_of(table: pa.Table) -> list[memoryview | bytes]:
    """Return the bytes, in pieces, of a table as a Parquet file with a checksum of
    itself.

    Equal tables give equal bytes.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return _sealed(sink.getvalue())


def write(pieces: list, path: Path, durable: bool = False) -> None:
    """Write pieces of bytes as one file, completely or not at all.

    durable: whether to wait until the bytes are on the disk, and not only in the
        system's memory.

    Raises UserError if the disk does not take them; an old file at the path is then
    unchanged.
    """
    try:
        _replace(pieces, path, durable)
    except OSError as error:
        raise UserError(
            f"cannot write {path.parent} ({error.strerror or error}): free space there "
            "or set SYMLAB_RESULTS to a folder that can be written; finished "
            "runs are kept"
        ) from None


def read_table(data: bytes) -> pa.Table:
    """Return the table in the bytes of a Parquet file.

    Raises ValueError or an Arrow error if the bytes are damaged. A file without a
    checksum, which an older version or another program wrote, is read without this
    test.
    """
    at = data.rfind(MARK)
    if at >= 0:
        whole, end = memoryview(data), at + len(MARK) + 32
        if _digest(whole[:at], whole[end:]) != data[at + len(MARK) : end]:
            raise ValueError("its bytes are not those that were written")
    source = pa.BufferReader(data)
    # Arrow's threads may outlive the interpreter: of 116 calls that only planned, 5
    # aborted at exit with them, and none of 162 without (apache/arrow issue 34314).
    return pq.ParquetFile(source, page_checksum_verification=True).read(
        use_threads=False
    )


def _sealed(data: pa.Buffer) -> list[memoryview | bytes]:
    whole = memoryview(data)
    cut = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")  # of the footer
    pages, footer = whole[:cut], whole[cut:]
    return [pages, MARK, _digest(pages, footer), footer]


def _digest(pages: memoryview, footer: memoryview) -> bytes:
    digest = sha256(pages)
    digest.update(footer)
    return digest.digest()


def _replace(pieces: list, path: Path, durable: bool) -> None:
    """Write a temporary file, then rename it; its mode is what the umask gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, handle = _open_locked(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            if durable:
                os.fsync(handle)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _open_locked(path: Path) -> tuple[Path, int]:
    while True:
        temporary = path.parent / f".{path.name}.{uuid4().hex}.tmp"
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with suppress(OSError):  # a file system may have no locks: nor will it clean
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else it was removed before we had the lock
            return temporary, handle
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_abandoned(folder: Path, name: str) -> None:
    """Remove temporary files whose writing process has died.

    folder: where they are. name: a pattern for the name of the file that was to be
        written.
    """
    for temporary in folder.glob(f".{name}.*.tmp"):
        with suppress(OSError):
            handle = os.open(temporary, os.O_WRONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()
            finally:
                os.close(handle)
