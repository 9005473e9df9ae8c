"""Known answers: no position where there is none, all of it where it is written down."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from posjax import runtime
from posjax.encoders import Encoder, Padding
from posjax.features import Store
from posjax.images import Rolled, open_source
from posjax.layers import conv, max_pool
from posjax.probes import Readout, fit, position_map, spc
from posjax.probes.controls import Task
from posjax.results import to_records
from posjax.runs import ReadoutSettings
from posjax.runs.image_sets import ImageSets
from posjax.runs.measure import Probe, Resources, measure

RIDGE = ReadoutSettings(
    maps=("H", "V", "G"), stages=("f1+f2", "all"), solver="ridge", feature_dtype="float32"
)


class Circular(nn.Module):
    """Two convolutions and a pool that wrap around (f1, f2), and coordinates (f3)."""

    @nn.compact
    def __call__(self, images):
        draw = nn.initializers.he_normal()
        f1 = nn.relu(conv(images, self.param("a", draw, (3, 3, 3, 8)), mode="circular"))
        f2 = max_pool(f1, window=3, stride=2, padding=1, mode="circular")
        f2 = nn.relu(conv(f2, self.param("b", draw, (3, 3, 8, 12)), mode="circular"))
        y, x = jnp.meshgrid(*[jnp.linspace(-1, 1, n) for n in f1.shape[1:3]], indexing="ij")
        f3 = jnp.broadcast_to(jnp.stack([x, y, -(x**2) - y**2], axis=-1), (*f1.shape[:3], 3))
        return {"f1": f1, "f2": f2, "f3": f3}


def test_a_circular_encoder_of_rolled_images_knows_no_position_and_coordinates_are_all_of_it():
    variables = jax.device_get(
        jax.jit(Circular().init)(jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
    )
    encoder = Encoder("circular", Circular(), variables, Padding("circular"), seed=0)
    train, test = (
        Rolled(open_source("dead_leaves", size=28, limit=150, seed=seed), seed) for seed in (0, 1)
    )
    probe = Probe(encoder, ImageSets(train, {"leaves": test}), 28, tuple(map(Task, RIDGE.maps)))
    resources = Resources(runtime.local_devices(1), Store(memory_bytes=1 << 30))
    without, coordinates = measure(probe, RIDGE, resources)
    for record in to_records(without):
        assert abs(record.spc) < 0.05, record
        assert record.skill < 0.02, record
    assert np.min([record.spc for record in to_records(coordinates)]) > 0.99


def spc_of_white_features(side, depth):
    """SPC on G of a readout that was trained on features without any position, side by side."""
    readout = Readout(depth=depth, feature_size=(28, 28), map_size=(56, 56))
    target = position_map("G", 56)
    draw = np.random.default_rng(0).standard_normal

    def batch():
        return {"f1": np.maximum(draw((16, side, side, 4), np.float32), 0)}

    variables = jax.jit(readout.init)(jax.random.key(0), batch())
    variables, _ = fit(readout, variables, (batch() for _ in range(120)), target)
    return float(np.nanmean(spc(jax.jit(readout.apply)(variables, batch()), target)))


def test_the_alignment_to_28_pixels_shows_the_border_to_nonlinear_readouts_alone():
    # Where 28 pixels are read from 56, 55 / 27 apart, the weights of the two neighbours drift from
    # 1, 0 at the border to 1/2, 1/2 in the middle, and halve the variance there; 55 are 2 apart.
    assert abs(spc_of_white_features(56, depth=1)) < 0.05
    assert abs(spc_of_white_features(55, depth=2)) < 0.1
    assert spc_of_white_features(56, depth=2) > 0.5
