"""Targets for single images: prepared for the loss, and scored, as full-size maps are."""

import jax.numpy as jnp
import numpy as np

from posjax.fitting import control_targets as targets
from posjax.probes import Readout, mae, position_map, spc
from posjax.probes.controls import IMAGE_SHUFFLED, SHUFFLED, TESTING, TRAINING, Task
from posjax.probes.controls import image_permutation as permutation
from posjax.probes.trainer import LowResTarget, squared_error, target_for

READOUT = Readout(feature_size=(8, 8), map_size=(16, 16))
TASKS = (Task("H"), Task("G", IMAGE_SHUFFLED), Task("G", SHUFFLED), Task("V", IMAGE_SHUFFLED))
ROWS = np.array([4, 0, 9])


def shuffled(name, stream, row):
    target = np.zeros(256, np.float32)
    for pixel, value in enumerate(position_map(name, 16).ravel()):
        target[permutation(256, stream, row)[pixel]] = value
    return target.reshape(16, 16)


def test_the_loss_of_an_image_is_that_to_its_own_map():
    assert targets.per_image(TASKS) == (1, 3)
    maps = targets.task_maps(READOUT, TASKS)
    common = target_for(READOUT, maps)
    own = targets.image_targets(READOUT, TASKS, ROWS)
    goals = targets.merged(common, own, targets.per_image(TASKS))
    response = jnp.asarray(np.random.default_rng(0).random((3, 6, 6), np.float32))
    whole = READOUT.upsample(response)
    for i, (task, goal) in enumerate(zip(TASKS, zip(*goals, strict=True), strict=True)):
        found = squared_error(READOUT, response, LowResTarget(*goal))
        if task.control == IMAGE_SHUFFLED:
            goal_maps = np.stack([shuffled(task.map, TRAINING, int(row)) for row in ROWS])
        else:
            goal_maps = maps[i]
        expected = np.mean((whole - goal_maps) ** 2, axis=(1, 2))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=str(i))


def test_scores_are_those_against_the_image_s_own_map():
    predictions = jnp.asarray(np.random.default_rng(1).random((3, 16, 16), np.float32))
    orders = jnp.asarray(targets.permutations_of(READOUT, TASKS, ROWS))
    back = targets.put_back(predictions, orders)
    for i, row in enumerate(ROWS.tolist()):
        own = shuffled("V", TESTING, row)
        goal = position_map("V", 16)
        np.testing.assert_allclose(spc(back[i], goal), spc(predictions[i], own), atol=1e-6)
        np.testing.assert_allclose(mae(back[i], goal), mae(predictions[i], own), atol=1e-6)


def test_without_such_tasks_nothing_is_prepared():
    tasks = TASKS[:1]
    assert targets.permutations_of(READOUT, tasks, ROWS).shape == (3, 0)
    assert targets.image_targets(READOUT, tasks, ROWS).target.shape == (3, 0, 6, 6)
