"""How many programs a run compiles: one for an encoder, whatever padding modes it compares."""

import collections
import logging
import re

import jax
import pytest

from posjax.runs import Settings, run

SIZES = {
    "images": "noise",
    "test_images": ("noise",),
    "num_train": 4,
    "num_test": 2,
    "batch_size": 2,
    "epochs": 1,
    "maps": ("H",),
    "weights": ("random",),
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


def probed(settings):
    """The paddings that a run has results of."""
    return {result.probe.padding for result in run(settings, title="T", say=lambda _: None)}


def test_six_modes_are_one_program_of_the_encoder_and_valid_is_another(tmp_path, compiled):
    modes = ("zeros", "reflect", "replicate", "circular", "symmetric", "partial")
    settings = Settings(
        encoder=("resnet20",),
        paddings=(*modes, "valid"),
        image_size=84,
        seeds=(0, 1),
        workdir=tmp_path,
        **SIZES,
    )
    assert probed(settings) == {*modes, "valid"}
    assert compiled["encode"] == 2
    # The stages of `valid` have other shapes: readouts and scores are two programs each.
    assert compiled["train_readouts"] == compiled["score_readouts"] == 2
    assert compiled["init"] <= 3


def test_an_ablation_of_all_layers_is_one_program(tmp_path, compiled):
    settings = Settings(
        encoder=("resnet18",),
        paddings=("zeros", "reflect", "reflect+each=zeros", "zeros+each=reflect"),
        image_size=64,
        seeds=(0,),
        workdir=tmp_path,
        **SIZES,
    )
    # The 17 convolutions that pad, the stem's pool, and the two modes themselves.
    assert len(probed(settings)) == 2 * 18 + 2
    assert compiled["encode"] == 1
    assert compiled["train_readouts"] == compiled["score_readouts"] == 1
