"""How encoders are trained: learning rate, optimiser and loss."""

import dataclasses
import math
from typing import Any

import flax
import jax
import optax
from jaxtyping import Array, Float, Int

SCHEDULES = ("one_cycle", "cosine")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What determines a training, given the encoder and the images.

    Images are opened `crop_margin` pixels larger than the encoder sees them, see `augment`.
    `seed` draws the initial weights, the order of the images, crops, flips and dropout; padding
    modes do not enter, so that encoders under different ones start and go on alike.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    schedule: str = "one_cycle"
    warmup_epochs: float = 5.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    crop_margin: int = 4
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self):
        """Raises ValueError where a value is out of range; names it."""
        ranges = {
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "learning_rate": (0 < self.learning_rate < math.inf, "above 0 and finite"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            "warmup_epochs": (0 <= self.warmup_epochs < self.epochs, f"below {self.epochs} epochs"),
            "momentum": (0 <= self.momentum < 1, "from 0 to below 1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "from 0 to below 1"),
            "crop_margin": (self.crop_margin >= 0, "0 or more"),
            "dtype": (self.dtype in DTYPES, f"one of {', '.join(DTYPES)}"),
        }
        for name, (good, expected) in ranges.items():
            if not good:
                raise ValueError(f"--{name} must be {expected}, found {getattr(self, name)}")


def schedule(recipe: Recipe, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of each step, from 0 up to the peak and down to 0 at the last epoch's end.

    It rises in a straight line for `warmup_epochs`; then it falls in a straight line (`one_cycle`,
    after Smith and Topin 2018, arXiv 1708.07120, without cycling the momentum) or along a cosine.

    Raises:
        ValueError: so few steps that the rise takes all of them.
    """
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    rest = recipe.epochs * steps_per_epoch - warmup
    if rest < 1:
        raise ValueError(
            f"--warmup_epochs={recipe.warmup_epochs:g} leaves none of the "
            f"{recipe.epochs * steps_per_epoch} steps to come down in"
        )
    if recipe.schedule == "cosine":
        fall = optax.cosine_decay_schedule(recipe.learning_rate, rest)
    else:
        fall = optax.linear_schedule(recipe.learning_rate, 0.0, rest)
    if not warmup:
        return fall
    # Already the first step moves: the k-th of the rise has k / warmup of the peak.
    rise = optax.linear_schedule(
        recipe.learning_rate / warmup, recipe.learning_rate * (1 + 1 / warmup), warmup
    )
    return optax.join_schedules([rise, fall], [warmup])


def optimizer(recipe: Recipe, steps_per_epoch: int) -> optax.GradientTransformation:
    """`torch.optim.SGD(nesterov=True)`, with weight decay on the kernels alone.

    BatchNorm's parameters and biases are not decayed.
    """
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay, mask=_kernels),
        optax.sgd(
            schedule(recipe, steps_per_epoch),
            momentum=recipe.momentum or None,
            nesterov=recipe.momentum > 0,
        ),
    )


def _kernels(params: Any) -> Any:
    flat = flax.traverse_util.flatten_dict(params)
    return flax.traverse_util.unflatten_dict({path: path[-1] == "kernel" for path in flat})


def cross_entropy(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"], smoothing: float
) -> Float[Array, " n"]:
    """`torch.nn.functional.cross_entropy(label_smoothing=…)` of each row, in float32."""
    wide = logits.astype("float32")
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(wide, targets)
