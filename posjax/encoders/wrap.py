"""`wrap`: a network of the user's own as an encoder, from a function or from a file of Python."""

import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from posjax.encoders.blocks import ReceptiveField
from posjax.encoders.factory import names
from posjax.encoders.frozen import NORMALIZATIONS, Encoder, frozen
from posjax.encoders.wrapped import OWN, Wrapped
from posjax.layers.network_padding import Padding

_IN_FILE = re.compile(r"(?P<path>.+\.py):(?P<function>[^\W\d]\w*)")


def wrap(
    fn: Callable,
    variables: Any,
    *,
    name: str,
    padding: str | Padding = "zeros",
    stages: Sequence[str] = (),
    init: Callable[[jax.Array], Any] | None = None,
    normalize: str = "none",
    image_size: int = 224,
    receptive_fields: Mapping[str, ReceptiveField] | None = None,
) -> Encoder:
    """A network of the user's own as an `Encoder`, which all programs and `compare` take.

    Its layers that pad are those of `posjax.padded_layers`: `posjax.repad` gives them a mode.

    Args:
        fn: `fn(variables, images)`, with images [n, h, w, 3] in [0, 1], gives a dict of maps
            [n, h, w, c], which are the stages, or one map, or anything where `stages` is given.
        variables: a pytree of arrays.
        name: what results call it.
        padding: the mode, see `posjax.repad`.
        stages: layers of `fn` whose maps are the stages, as `posjax.layers_of(fn, variables,
            images)` lists them: names, ends of names, or patterns with `*` and `?`.
        init: gives random variables from a PRNG key. The control `random` needs it.
        normalize: the statistics of the images that it was trained on; `none` where `fn`
            normalises its images.
        image_size: the side of the images with which it is traced to find its layers, pixels. One
            that takes images of a single size needs it.
        receptive_fields: of each stage, which PPP needs; by default they are found by the responses
            that a pixel changes.

    Raises:
        ValueError: `fn` cannot be traced, gives no maps, or cannot have the padding; names `name`.
    """
    if normalize not in NORMALIZATIONS[1:]:
        expected = ", ".join(NORMALIZATIONS[1:])
        raise ValueError(f"normalize: {normalize!r} is unknown; expected one of {expected}")
    network = Wrapped(
        name=name,
        fn=fn,
        variables=variables,
        stages=tuple(stages),
        init=init,
        normalize=normalize,
        image_size=image_size,
        known_fields=receptive_fields,
    )
    try:
        network = network.clone(program=network.digest_of_program())
    # Whatever a function of the user's own raises.
    except Exception as error:
        raise ValueError(
            f"{name} cannot be traced with images [1, {image_size}, {image_size}, 3]: "
            f"{_reason(error)}"
        ) from error
    return frozen(network, OWN, padding)


def find_network(text: Any) -> str | Wrapped:
    """The network of an encoder by its name, or by `FILE.py:FUNCTION`.

    FUNCTION takes nothing, and returns `(fn, variables)` or an encoder that `wrap` made.

    Raises:
        ValueError: it is neither; the file cannot be run, or the function returns something else.
    """
    if isinstance(text, Wrapped) or text in names():
        return text
    in_file = _IN_FILE.fullmatch(str(text))
    if in_file is None:
        raise ValueError(
            f"{text!r} is unknown; expected FILE.py:FUNCTION or one of {', '.join(names())}"
        )
    path = Path(in_file["path"]).expanduser()
    if not path.is_file():
        raise ValueError(f"{text}: there is no file {path}")
    stamp = path.stat()
    version = (stamp.st_mtime_ns, stamp.st_size)
    return _network_in_file(str(text), path, in_file["function"], version)


# Cached, because settings are read more than once. A file that was overwritten is run again.
@functools.lru_cache(maxsize=8)
def _network_in_file(text: str, path: Path, function: str, version: tuple[int, int]) -> Wrapped:
    made = _call(path, function)
    if isinstance(made, tuple) and len(made) == 2 and callable(made[0]):
        made = wrap(*made, name=text)
    if not isinstance(made, Encoder) or not isinstance(made.network, Wrapped):
        raise ValueError(
            f"{text} returned {type(made).__name__}; expected (fn, variables) or an encoder that "
            "posjax.encoders.wrap made"
        )
    return made.network.clone(name=text, file=hashlib.sha256(path.read_bytes()).hexdigest())


def _call(path: Path, function: str) -> Any:
    """What a function in a file returns. The file may import others that lie beside it."""
    # By its path, it takes the place of no other module.
    spec = importlib.util.spec_from_file_location(str(path.absolute()), path)
    assert spec is not None  # the file is there
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses, as flax modules are, look up annotations that are texts there.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        spec.loader.exec_module(module)
        made = getattr(module, function, None)
        if not callable(made):
            raise ValueError(f"there is no function {function} in it")
        return made()
    # Whatever the file of the user's own raises.
    except Exception as error:
        raise ValueError(f"{path}: {_reason(error)}") from error
    finally:
        sys.path.remove(str(path.parent.absolute()))


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{kind}{error}"
