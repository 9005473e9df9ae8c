"""Random numbers: those of JAX's defaults under every configuration of JAX."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from posjax.runtime.randomness import drawing, random_key

DRAWN = """
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from posjax import encoders
from posjax.features import Features
from posjax.fitting import SGD, Readouts
from posjax.probes import Readout
from posjax.probes.controls import Task
from posjax.runtime import drawing, pmap, random_key
from posjax.training.augment import random_windows

stages = {"f1": np.ones((2, 28, 28, 4), np.float32)}
readouts = Readouts(Readout(2, 3, 0), ("f1",), (Task("V"),), (3,))
fitted = SGD(1, 0.0, 2).fit(readouts, Features(stages, 2), jax.local_devices()[:1])
images = np.random.default_rng(0).random((1, 16, 9, 9, 1), np.float32)


def windows(images):
    with drawing():
        return random_windows(images, jnp.zeros(len(images)), random_key(5), 4, "devices")[0]


drawn = [fitted.variables["params"], pmap(windows, jax.local_devices()[:1])(images)]
for tree in [encoders.frozen("vgg8_bn_quarter", seed=3).variables, *drawn]:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    print({str(leaf.dtype) for leaf in leaves}, [hashlib.sha1(x).hexdigest() for x in leaves])
"""
OTHERWISE = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "7",
}


@pytest.mark.parametrize("seed", [0, 3, 2**31 + 5, 2**32 - 1, 2**33 + 7])
def test_keys_are_those_of_jax_s_defaults(seed):
    expected = jax.random.uniform(jax.random.key(seed), (3,))
    impl, partitionable = jax.default_prng_impl("rbg"), jax.threefry_partitionable(False)
    with impl, partitionable, drawing():
        np.testing.assert_array_equal(jax.random.uniform(random_key(seed), (3,)), expected)
        traced = jax.jit(random_key)(np.uint32(seed % 2**32))
        np.testing.assert_array_equal(jax.random.uniform(traced, (3,)), expected)


def test_encoders_readouts_and_windows_are_the_same_in_every_environment(capsys):
    exec(DRAWN, {})
    drawn = capsys.readouterr().out
    assert drawn.count("{'float32'}") == 3
    otherwise = subprocess.run(
        [sys.executable, "-c", DRAWN],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"} | OTHERWISE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert otherwise.stdout == drawn
