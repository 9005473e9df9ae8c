"""How many programs a run compiles: one for an encoder, whatever padding modes it compares."""

import collections
import logging
import re

import jax
import pytest

from posjax.features import Store
from posjax.layers import MODES
from posjax.runs import Settings
from posjax.runs.conditions import load_encoder, tasks
from posjax.runs.measure import Probe, Resources, measure
from posjax.runs.plan import prepare

SIZES = {
    "images": "noise",
    "test_images": ("noise",),
    "num_train": 4,
    "num_test": 2,
    "batch_size": 2,
    "epochs": 1,
    "maps": ("H",),
    "weights": ("random",),
    "devices": 1,
}


class Compilations(logging.Handler):
    """Counts the functions that JAX says it compiles."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def emit(self, record):
        if name := re.match(r"Compiling (?:jit\()?(\w+)", record.getMessage()):
            self.counts[name[1]] += 1


@pytest.fixture
def compiled():
    handler, logger = Compilations(), logging.getLogger("jax")
    jax.config.update("jax_log_compiles", True)
    logger.addHandler(handler)
    yield handler.counts
    logger.removeHandler(handler)
    jax.config.update("jax_log_compiles", False)


def test_modes_and_layers_are_one_program_and_valid_is_another(tmp_path, compiled):
    modes = tuple(mode for mode in MODES if mode != "valid")
    layer = "zeros+features.4=reflect"
    settings = Settings(
        encoder=("vgg8_bn_quarter",),
        paddings=(*modes, layer, "valid"),
        image_size=96,
        seeds=(0, 1),
        workdir=tmp_path,
        **SIZES,
    )
    plan = prepare(settings)
    resources = Resources(plan.devices, Store(memory_bytes=1 << 30))
    probed = set()
    for condition in plan.conditions:
        probe = Probe(load_encoder(settings, condition), plan.sets, 96, tasks(settings, ""))
        probed |= {result.probe.padding for result in measure(probe, settings, resources)}
    assert probed == {*modes, layer, "valid"}
    assert compiled["encode"] == 2
    # The stages of `valid` have other shapes: readouts and scores are two programs each.
    assert compiled["train_readouts"] == compiled["score_readouts"] == 2
    assert compiled["init"] <= 3
