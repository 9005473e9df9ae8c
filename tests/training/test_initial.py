"""Training begins with the weights that its settings name, or not at all."""

import dataclasses

import jax
import numpy as np
import pytest
from colours import write_images

from posjax.encoders import Padding
from posjax.encoders.weights.export import to_safetensors
from posjax.training import Classification, TrainingSettings
from posjax.training.initial import (
    check_initial,
    initial_variables,
    load_initial,
    record,
    with_encoder,
)
from posjax.training.saliency.network import SaliencyNetwork
from posjax.training.task import Job

NAME = "resnet20"


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    train, test = (str(write_images(folder / part, 2)) for part in ("train", "test"))
    return TrainingSettings(encoder=NAME, images=train, test_images=test, workdir=folder / "run")


@pytest.fixture(scope="module")
def job_of(settings):
    """The training that begins with these weights."""
    task = Classification.open(settings)

    def make(weights, mode="zeros", **changes):
        changed = dataclasses.replace(settings, weights=weights, **changes)
        return Job(dataclasses.replace(task, settings=changed), Padding(mode), 0, ())

    return make


def test_each_padding_mode_begins_with_its_weights(resnet20_variables, job_of, tmp_path):
    trees = {mode: resnet20_variables(seed) for seed, mode in enumerate(("zeros", "circular"))}
    for mode, tree in trees.items():
        data = to_safetensors(NAME, tree, {"normalize": "cifar10"}, np.float32)
        (tmp_path / f"{NAME}-{mode}.safetensors").write_bytes(data)
    template = f"{tmp_path}/{{encoder}}-{{padding}}.safetensors"
    for mode, tree in trees.items():
        assert_same(load_initial(job_of(template, mode)).variables, tree)
    assert len({check_initial(job_of(template, mode)) for mode in trees}) == 2
    assert_same(initial_variables(job_of(template, "circular")), trees["circular"])
    with pytest.raises(FileNotFoundError, match=r"^weights: .*resnet20-reflect\.safetensors"):
        check_initial(job_of(template, "reflect"))


def test_random_weights_come_from_no_file(job_of):
    assert load_initial(job_of("random")) is None
    assert check_initial(job_of("random")) == "random"


@pytest.mark.parametrize(
    ("weights", "changes", "message"),
    [
        ("cifar10", {"normalize": "imagenet"}, "was trained with normalize=cifar10, not imagenet"),
        ("cifar10:valid", {}, "there are no weights cifar10 of resnet20"),
    ],
)
def test_weights_that_do_not_fit_are_refused(job_of, weights, changes, message):
    with pytest.raises(ValueError, match=f"^weights: .*{message}"):
        load_initial(job_of(weights, **changes))


def test_a_head_that_the_weights_lack_stays_random(resnet20_variables):
    fresh, bare = resnet20_variables(0), resnet20_variables(1, num_classes=None)
    merged = with_encoder(fresh, bare)
    assert_same(merged["params"].pop("linear"), fresh["params"]["linear"])
    assert_same(merged, bare)


def test_a_head_of_other_classes_is_left_out_with_a_note(resnet20_variables, capsys):
    fresh, other = resnet20_variables(0), resnet20_variables(1, num_classes=3)
    merged = with_encoder(fresh, other)
    assert "the weights are of 3 classes, the images have 2" in capsys.readouterr().err
    assert_same(merged["params"]["linear"], fresh["params"]["linear"])
    assert_same(merged["params"]["conv1"], other["params"]["conv1"])


def test_a_dense_network_takes_the_encoder_and_leaves_its_head(resnet20_variables):
    network, images = SaliencyNetwork(NAME), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    fresh = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    merged = with_encoder(fresh, resnet20_variables(1))
    bare = resnet20_variables(1, num_classes=None)
    assert_same({kind: tree["encoder"] for kind, tree in merged.items()}, bare)
    before, after = (
        {name: layer for name, layer in tree["params"].items() if name != "encoder"}
        for tree in (fresh, merged)
    )
    assert before
    assert_same(after, before)


def test_layers_of_other_shapes_are_refused(resnet20_variables):
    fresh, other = resnet20_variables(0), resnet20_variables(1)
    params = other["params"] | {"conv1": {"kernel": np.zeros((5, 5, 3, 16))}}
    with pytest.raises(ValueError, match="other layers than what is trained: conv1"):
        with_encoder(fresh, {**other, "params": params})


def test_layers_that_only_one_side_has_are_refused(resnet20_variables):
    fresh, other = resnet20_variables(0), resnet20_variables(1)
    more = {**other, "params": other["params"] | {"conv9": other["params"]["conv1"]}}
    for network, weights in ((fresh, more), (more, fresh)):
        with pytest.raises(ValueError, match="other layers than what is trained: conv9"):
            with_encoder(network, weights)


def test_a_training_that_began_with_other_weights_is_refused(job_of):
    job = job_of("random")
    for _ in range(2):
        record(job)
    with pytest.raises(ValueError, match="seed0 began with random, these are 12ab"):
        record(dataclasses.replace(job, initial_weights="12ab"))
