"""Folders: the files that a user put there, without what systems leave, and which are usable."""

from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TypeVar

from posjax.images.loader import THREADS

T = TypeVar("T")

_LISTED = 10  # problems of files in one error
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


def usable(
    names: Sequence[str], read: Callable[[str], T], where: str, what: str, *, skip: bool
) -> tuple[dict[str, T], tuple[tuple[str, str], ...]]:
    """What `read`, in threads, gives for each name; and the names that it refuses, with why.

    Raises:
        ValueError: it refuses some, unless `skip`, or all; the message begins with `where`, lists
            the first ten, and says `what` is wrong with them.
    """

    def attempt(name: str) -> tuple[list[T], str]:
        try:
            return [read(name)], ""
        except (ValueError, OSError) as error:
            return [], str(error).removeprefix(f"{name}: ")

    with ThreadPool(THREADS) as pool:
        tried = dict(zip(names, pool.map(attempt, names, chunksize=16), strict=True))
    good = {name: value for name, (values, _) in tried.items() for value in values}
    bad = tuple((name, problem) for name, (values, problem) in tried.items() if not values)
    if (bad and not skip) or not good:
        listed = "".join(f"\n  {name}: {problem}" for name, problem in bad[:_LISTED])
        more = f"\n  and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        start, end = "", "\nskip_bad_images=True leaves such files out"
        if skip:
            start, end = "no image is left, ", ""
        raise ValueError(f"{where}: {start}{len(bad)} of the {what}:{listed}{more}{end}")
    return good, bad
