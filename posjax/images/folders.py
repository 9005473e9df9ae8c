"""Folders: the files that a user put there, without what systems leave behind."""

from collections.abc import Iterator
from pathlib import Path

# What desktops, archives and file systems leave in folders.
_SYSTEM = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "icon\r", "lost+found", "@eadir"),
}


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden or a system's: never an image or a class."""
    return name.startswith(".") or name.lower() in _SYSTEM


def files_of(folder: Path, parents: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files at any depth, through links, but for those of `is_system`.

    Raises:
        ValueError: links run in a circle.
    """
    real = folder.resolve()
    if real in parents:
        raise ValueError(f"{folder} links back to {real}, a parent of it")
    for path in folder.iterdir():
        if is_system(path.name):
            continue
        if path.is_dir():
            yield from files_of(path, parents | {real})
        else:
            yield path
