"""An encoder and images small enough to encode in no time, in this process or in another."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from posjax.probes.controls import Task
from posjax import runtime
from posjax.features.features import encode
from posjax.encoders.frozen import Encoder

ONE = runtime.local_devices(1)


class Stem(nn.Module):
    """An encoder of two convolutions, for speed."""

    @nn.compact
    def __call__(self, images):
        f1 = nn.relu(nn.Conv(4, (3, 3))(images))
        return {"f1": f1, "f2": nn.relu(nn.Conv(6, (3, 3), (2, 2))(f1))}


VARIABLES = jax.device_get(Stem().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
ENCODER = Encoder("stem", "random", "zeros", None, Stem(), VARIABLES, "abc", "none", 0)


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
        levels = np.random.default_rng(index).integers(0, 256, (32, 32, 3))
        return levels.astype(np.float32) / np.float32(255)

    def digest(self):
        return "noise"


def run(directory, encoder=ENCODER, source=None, **options):
    options = {"dtype": "float32", "batch_size": 2, "devices": ONE} | options
    return encode(encoder, source or Noise(), directory, **options)


def tasks(*maps):
    return tuple(map(Task, maps))


def arrays(found):
    return {name: np.asarray(stage) for name, stage in found.stages.items()}


def entries(directory):
    return sorted(path.name for path in directory.iterdir())
