"""Files that are there whole or not at all, whenever the process is killed."""

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` to be written, which takes its place at the end of the block.

    Some network file systems rename to no name that is taken: there the old file is deleted before.

    Raises:
        OSError: it cannot be written; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except FileExistsError:
            path.unlink()
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file beside its place, and renames it when it is on disk."""
    with replacing(path) as file:
        file.write(content)


def encodable(text: str, encoding: str = "utf-8") -> str:
    """The text with escapes, such as `\\xd7`, for characters that the encoding lacks.

    No encoding has the bytes of file names that are no UTF-8: `\\udcff` stands for such a one.
    """
    return text.encode(encoding, "backslashreplace").decode(encoding)


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8, whole or not at all; see `encodable`."""
    write_atomically(path, encodable(text).encode())


def write_rows(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())
