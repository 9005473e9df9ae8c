"""Learning rate and optimiser of a training."""

from typing import Any

import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from posjax.training.settings import OptimizerSettings


def schedule(settings: OptimizerSettings, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of each step, from 0 up to the peak and down to 0 at the last epoch's end.

    It rises in a straight line for `warmup_epochs`; then it falls in a straight line (`one_cycle`,
    after Smith and Topin 2018, arXiv 1708.07120, without cycling the momentum) or along a cosine.

    Raises:
        ValueError: so few steps that the rise takes all of them.
    """
    warmup = round(settings.rise * steps_per_epoch)
    rest = settings.epochs * steps_per_epoch - warmup
    if rest < 1:
        raise ValueError(
            f"warmup_epochs={settings.rise:g} leaves none of the "
            f"{settings.epochs * steps_per_epoch} steps to come down in"
        )
    if settings.schedule == "cosine":
        fall = optax.cosine_decay_schedule(settings.learning_rate, rest)
    else:
        fall = optax.linear_schedule(settings.learning_rate, 0.0, rest)
    if not warmup:
        return fall
    # Already the first step moves: the k-th of the rise has k / warmup of the peak.
    rise = optax.linear_schedule(
        settings.learning_rate / warmup, settings.learning_rate * (1 + 1 / warmup), warmup
    )
    return optax.join_schedules([rise, fall], [warmup])


def optimizer(settings: OptimizerSettings, steps_per_epoch: int) -> optax.GradientTransformation:
    """`torch.optim.SGD(nesterov=True)`, with weight decay on the kernels alone.

    BatchNorm's parameters and biases are not decayed.
    """
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay, mask=_kernels),
        optax.sgd(
            schedule(settings, steps_per_epoch),
            momentum=settings.momentum or None,
            nesterov=settings.momentum > 0,
        ),
    )


def _kernels(params: Any) -> Any:
    flat = flatten_dict(params)
    return unflatten_dict({path: path[-1] == "kernel" for path in flat})
