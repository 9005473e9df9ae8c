"""Whatever a run compiles can be lowered for a CPU, a GPU and a TPU, on a machine that has none."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import ShapeDtypeStruct

from experiments.benchmarks import programs
from experiments.benchmarks.programs import NORMALIZE, Program, pixels, variables_of
from posjax import encoders, runtime, training
from posjax.encoders import Padding
from posjax.fitting import scoring
from posjax.ppp import measure as ppp
from posjax.probes import Readout
from posjax.training import objective as networks
from posjax.training.classification import CrossEntropy
from posjax.training.saliency.network import SaliencyNetwork, SaliencyObjective
from posjax.training.saliency.shift import shift_step

PLATFORMS = ("cpu", "cuda", "tpu")
ENCODER, BATCH, SIZE, COUNT = "vgg8_bn_quarter", 2, 32, 3
SETTINGS = training.OptimizerSettings()
SIZES = {"feature_size": (8, 8), "map_size": (SIZE, SIZE)}
SHALLOW, DEEP, LINEAR = (
    Readout(**SIZES),
    Readout(depth=3, padding=1, **SIZES),
    Readout(kernel_size=1, linear=True, **SIZES),
)


@functools.cache
def stages():
    return programs.stages_of(ENCODER, BATCH, SIZE)


def encode(padding, dtype="float32"):
    return programs.encode(ENCODER, padding, dtype, BATCH, SIZE, "tpu")


def predict_maps():
    variables = programs.begin_readouts(DEEP, stages(), COUNT).result()
    return Program(functools.partial(scoring.predict_maps, DEEP), (variables, stages()))


def encode_crops():
    """PPP's sums over a batch, after the stages of what is around the crops."""
    module, geometry = encoders.create(ENCODER), ppp.crop_geometry(ENCODER, SIZE)
    images = variables_of(module), pixels(BATCH, geometry.image_size)
    around = Program(ppp.surroundings_step(module, NORMALIZE), images)
    mask, modes = ShapeDtypeStruct((BATCH,), jnp.float32), programs.mode_shape(ENCODER)
    step = ppp.crops_step(module, NORMALIZE, geometry)
    return Program(step, (*images, around.result(), mask, modes)), around


def classify(padding):
    objective = CrossEntropy(encoders.create(ENCODER, padding, num_classes=10))
    return objective, ShapeDtypeStruct((BATCH,), jnp.int32)


def find_salient(padding):
    objective = SaliencyObjective(SaliencyNetwork(ENCODER, Padding(padding)))
    return objective, ShapeDtypeStruct((BATCH, SIZE, SIZE), jnp.uint8)


def train(objective, targets):
    return programs.train_network(objective, targets, SIZE, SETTINGS)


def evaluate(objective, targets):
    step = networks.evaluation_step(objective, SETTINGS.crop_margin, NORMALIZE)
    examples = programs.examples(targets, SIZE, SETTINGS.crop_margin)
    return Program(step, (variables_of(objective.module), *examples))


def begin_encoder():
    images = jnp.zeros((1, SIZE, SIZE, 3))
    key = jax.eval_shape(jax.random.key, 0)
    return Program(lambda key: encoders.create(ENCODER).init(key, images), (key,))


def move_crops():
    network = SaliencyNetwork(ENCODER)
    images = variables_of(network), pixels(BATCH, SIZE + 2 * 16)
    return Program(shift_step(network, NORMALIZE, SIZE, 16), images)


CASES = {
    "encode, zeros": lambda: encode("zeros"),
    "encode, reflect": lambda: encode("reflect"),
    "encode, modes as integers": lambda: encode(None),
    "encode, modes as integers in bfloat16": lambda: encode(None, "bfloat16"),
    # An encoder and an image size that have wide convolutions for it.
    "encode, by Winograd": lambda: programs.encode("vgg11", None, "float32", BATCH, 64, "cpu"),
    "train readouts": lambda: programs.train_readouts(SHALLOW, stages(), COUNT),
    "train readouts, one on a map per image": (
        lambda: programs.train_readouts(SHALLOW, stages(), COUNT, 1)
    ),
    "train deep readouts": lambda: programs.train_readouts(DEEP, stages(), COUNT),
    "score readouts": lambda: programs.score_readouts(SHALLOW, stages(), COUNT),
    "score readouts, one on a map per image": (
        lambda: programs.score_readouts(SHALLOW, stages(), COUNT, 1)
    ),
    "score linear readouts": lambda: programs.score_readouts(LINEAR, stages(), COUNT),
    "predict maps": predict_maps,
    "ridge, a batch": lambda: programs.sum_products(LINEAR, stages()),
    "PPP, crops by modes as integers": lambda: encode_crops()[0],
    "PPP, surroundings": lambda: encode_crops()[1],
    "begin an encoder": begin_encoder,
    "train an encoder": lambda: train(*classify("zeros")),
    "evaluate an encoder": lambda: evaluate(*classify("reflect")),
    "train a dense network": lambda: train(*find_salient("reflect")),
    "evaluate a dense network": lambda: evaluate(*find_salient("zeros")),
    "crops that move": move_crops,
}


def lower(program, monkeypatch):
    # An accelerator's compiler gets no options; with some, no program is exported as it is run.
    monkeypatch.setattr("posjax.runtime.devices.compiler_options", lambda platform: {})
    step, arguments = program.on(runtime.local_devices(1))
    jax.export.export(jax.jit(step), platforms=PLATFORMS)(*arguments)


@pytest.mark.parametrize("case", CASES)
def test_every_compiled_function_lowers_for_cpu_cuda_and_tpu(case, monkeypatch):
    lower(CASES[case](), monkeypatch)


@pytest.mark.parametrize(
    "step",
    [
        jnp.linalg.eigvals,
        lambda x: jax.ffi.ffi_call("of_one_cpu", ShapeDtypeStruct((), x.dtype))(x),
    ],
    ids=["an operation that only some have", "a call into a library"],
)
def test_a_function_that_a_platform_lacks_is_refused(step, monkeypatch):
    matrix = ShapeDtypeStruct((3, 3), jnp.float32)
    with pytest.raises((NotImplementedError, ValueError), match=r"tpu|of_one_cpu"):
        lower(Program(step, (matrix,)), monkeypatch)
