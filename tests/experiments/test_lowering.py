"""Whatever a run compiles can be lowered for a CPU, a GPU and a TPU, on a machine that has none."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import ShapeDtypeStruct

from experiments.benchmarks import programs
from posjax import encoders, runtime, training
from posjax.encoders import Padding
from posjax.probes import Readout
from posjax.training.classification import CrossEntropy
from posjax.training.saliency.network import SaliencyNetwork, SaliencyObjective

PLATFORMS = ("cpu", "cuda", "tpu")
ENCODER, BATCH, SIZE, COUNT = "vgg8_bn_quarter", 2, 32, 3
SETTINGS = training.OptimizerSettings()
SIZES = {"feature_size": (8, 8), "map_size": (SIZE, SIZE)}
SHALLOW, DEEP, LINEAR = (
    Readout(**SIZES),
    Readout(depth=3, padding=1, **SIZES),
    Readout(kernel_size=1, linear=True, **SIZES),
)
CLASSES = ShapeDtypeStruct((BATCH,), jnp.int32)
MASKS = ShapeDtypeStruct((BATCH, SIZE, SIZE), jnp.uint8)


@functools.cache
def stages():
    return programs.stages_of(ENCODER, BATCH, SIZE)


def encode(padding, dtype="float32", platform="tpu"):
    return lambda: programs.encode(ENCODER, padding, dtype, BATCH, SIZE, platform)


def fit(make, readout, *counts):
    return lambda: make(readout, stages(), *counts)


def classify(make, padding):
    objective = CrossEntropy(encoders.create(ENCODER, padding, num_classes=10))
    return lambda: make(objective, CLASSES, SIZE, SETTINGS)


def find_salient(make, padding):
    network = SaliencyNetwork(ENCODER, Padding(padding))
    return lambda: make(SaliencyObjective(network), MASKS, SIZE, SETTINGS)


CASES = {
    "encode, zeros": encode("zeros"),
    "encode, reflect": encode("reflect"),
    "encode, partial": encode("partial"),
    "encode, reflect in bfloat16": encode("reflect", "bfloat16"),
    "encode, modes as data": encode(None),
    "encode, as on a CPU": encode(None, platform="cpu"),
    # An encoder and an image size that have wide convolutions for it.
    "encode, by Winograd": lambda: programs.encode("vgg11", None, "float32", BATCH, 64, "cpu"),
    "encode, modes as data in bfloat16": encode(None, "bfloat16"),
    "begin readouts": fit(programs.begin_readouts, SHALLOW, COUNT),
    "train readouts": fit(programs.train_readouts, SHALLOW, COUNT),
    "train readouts, one on a map per image": fit(programs.train_readouts, SHALLOW, COUNT, 1),
    "train deep readouts": fit(programs.train_readouts, DEEP, COUNT),
    "score readouts": fit(programs.score_readouts, SHALLOW, COUNT),
    "score readouts, one on a map per image": fit(programs.score_readouts, SHALLOW, COUNT, 1),
    "score linear readouts": fit(programs.score_readouts, LINEAR, COUNT),
    "predict maps": fit(programs.predict_maps, DEEP, COUNT),
    "ridge, no images": fit(programs.start_sums, LINEAR),
    "ridge, a batch": fit(programs.sum_products, LINEAR),
    "PPP, surroundings": lambda: programs.encode_surroundings(ENCODER, BATCH, SIZE),
    "PPP, crops": lambda: programs.encode_crops(ENCODER, "reflect", BATCH, SIZE),
    "PPP, crops by modes as data": lambda: programs.encode_crops(ENCODER, None, BATCH, SIZE),
    "begin an encoder": lambda: programs.begin_network(encoders.create(ENCODER), SIZE),
    "train an encoder, zeros": classify(programs.train_network, "zeros"),
    "train an encoder, reflect": classify(programs.train_network, "reflect"),
    "evaluate an encoder": classify(programs.evaluate_network, "reflect"),
    "train a dense network": find_salient(programs.train_network, "reflect"),
    "evaluate a dense network": find_salient(programs.evaluate_network, "zeros"),
    "crops that move": lambda: programs.measure_shifts(SaliencyNetwork(ENCODER), BATCH, SIZE, 16),
}


@pytest.fixture(autouse=True)
def as_on_an_accelerator(monkeypatch):
    """Its compiler gets no options; with some, a program could not be exported as it is run."""
    monkeypatch.setattr("posjax.runtime.devices.compiler_options", lambda platform: {})


def lower(program):
    step, arguments = program.on(runtime.local_devices(1))
    jax.export.export(jax.jit(step), platforms=PLATFORMS)(*arguments)


@pytest.mark.parametrize("case", CASES)
def test_every_compiled_function_lowers_for_cpu_cuda_and_tpu(case):
    lower(CASES[case]())


@pytest.mark.parametrize(
    "step",
    [
        jnp.linalg.eigvals,
        lambda x: jax.ffi.ffi_call("of_one_cpu", ShapeDtypeStruct((), x.dtype))(x),
    ],
    ids=["an operation that only some have", "a call into a library"],
)
def test_a_function_that_a_platform_lacks_is_refused(step):
    matrix = ShapeDtypeStruct((3, 3), jnp.float32)
    with pytest.raises((NotImplementedError, ValueError), match=r"tpu|of_one_cpu"):
        lower(programs.Program(step, (matrix,)))
