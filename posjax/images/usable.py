"""Which of many files or records can be used; the others are told all at once, or left out."""

from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from posjax.images.loader import THREADS

T = TypeVar("T")

_LISTED = 10


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
