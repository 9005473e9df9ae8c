"""Progress bars, of the first host alone, silent where the output is no terminal, and notes."""

import sys
from typing import Any

from tqdm import tqdm

from posjax.runtime.files import encodable
from posjax.runtime.multihost import is_first


def bar(total: int, what: str, unit: str) -> tqdm:
    """A bar with rate and time left on standard error; nothing where that is no terminal."""
    return tqdm(
        total=total,
        desc=_shown(what, sys.stderr),
        unit=f" {unit}",
        disable=None if is_first() else True,
        file=sys.stderr,
        dynamic_ncols=True,
        leave=False,
    )


def advance(bar: tqdm, count: int, **figures: str) -> None:
    """Counts `count` more, with figures behind a rate without the first count, which compiled."""
    if bar.n == 0 and not bar.disable:
        bar.reset()
        bar.initial = bar.n = bar.last_print_n = count
        bar.set_postfix(figures)
    else:
        bar.set_postfix(figures, refresh=False)
        bar.update(count)


def log(bar: tqdm, text: str) -> None:
    """Says on standard error how far it is, where no bar does."""
    if bar.disable and is_first():
        _write(text, sys.stderr)


def note(text: str) -> None:
    """Says on standard error, above any bar, what is worth knowing even without a terminal."""
    _write(text, sys.stderr)


def say(text: str) -> None:
    """Prints what a run was started for, above any bar."""
    _write(text, sys.stdout)


def _shown(text: str, stream: Any) -> str:
    # Streams of notebooks may have no encoding.
    return encodable(text, getattr(stream, "encoding", None) or "utf-8")


def _write(text: str, stream: Any) -> None:
    tqdm.write(_shown(text, stream), file=stream)
    stream.flush()
