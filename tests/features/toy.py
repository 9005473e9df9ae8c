"""An encoder and images small enough to encode in no time, in this process or in another."""

import jax
import numpy as np
from flax import linen as nn

from posjax import runtime
from posjax.encoders import Encoder, Padding
from posjax.features import EncodingOptions, Store, encode, layout_bytes
from posjax.probes.controls import Task

ONE = runtime.local_devices(1)
SIZE = 32  # pixels
STAGES = {"f1": (28, 28, 4), "f2": (16, 16, 6)}
BYTES = layout_bytes({k: jax.ShapeDtypeStruct((5, *s), np.float32) for k, s in STAGES.items()})


class Stem(nn.Module):
    """An encoder of two convolutions, for speed."""

    @nn.compact
    def __call__(self, images):
        f1 = nn.relu(nn.Conv(4, (3, 3))(images))
        return {"f1": f1, "f2": nn.relu(nn.Conv(6, (3, 3), (2, 2))(f1))}


VARIABLES = jax.device_get(jax.jit(Stem().init)(jax.random.key(0), np.zeros((1, SIZE, SIZE, 3))))
ENCODER = Encoder("stem", Stem(), VARIABLES, Padding("zeros"), digest="abc", seed=0)


class Noise:
    """Five images of 32 pixels; `at` is called with the index of each one that is read."""

    name, skipped = "noise", ()

    def __init__(self, at=lambda index: None, count=5):
        self.keys = tuple(f"noise/{i}" for i in range(count))
        self.at = at

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        index = range(len(self))[index]
        self.at(index)
        levels = np.random.default_rng(index).integers(0, 256, (SIZE, SIZE, 3))
        return levels.astype(np.float32) / np.float32(255)

    def digest(self):
        return f"noise {len(self)}"


def refuse(index):
    """For `Noise.at`, where no image may be read."""
    raise AssertionError("read once more")


def run(store, encoder=ENCODER, source=None, **options):
    """The features of `source`, kept in a folder or as a store says."""
    store = store if isinstance(store, Store) else Store(cache_dir=store)
    options = EncodingOptions(ONE, **({"dtype": "float32", "batch_size": 2} | options))
    return encode(encoder, source or Noise(), SIZE, store, options)


def tasks(*maps):
    return tuple(map(Task, maps))


def arrays(features):
    index = np.arange(len(features))
    return features.rows(index, tuple(features.stages))


def files(directory):
    """The names of the files of features."""
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
