"""Writes steps.npz beside this file: steps of PyTorch's SGD; needs torch, which the tests do not.

The network and its parameters are those of `tests/encoders/data/make_stages.py`.
"""

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[1] / "encoders" / "data"))

from make_stages import ResNet, images_of, numbered  # noqa: E402

WARMUP, TOTAL = 2, 6
RATE, MOMENTUM, DECAY, SMOOTHING = 0.1, 0.9, 5e-3, 0.1
# The seeds of the batches. Where a ReLU's argument is so near to 0 that rounding decides its sign,
# it decides the gradient too, and the steps behind part ways: few images, and such that none is.
SEEDS = (7, 8, 9)
NEAREST = 2e-5


def main():
    arrays = {"seeds": SEEDS}
    for mode in ("zeros", "reflect"):
        arguments = []
        relu = functional.relu

        def watched(x, relu=relu, arguments=arguments):
            arguments.append(x.detach().abs().min())
            return relu(x)

        with mock.patch.object(functional, "relu", watched):
            train(mode, torch.float64)
        assert min(arguments) > NEAREST, (mode, min(arguments))
        arrays |= train(mode, torch.float32)
    np.savez_compressed(HERE / "steps.npz", **arrays)


def train(mode, dtype):
    arrays = {}
    network = numbered(ResNet("resnet20", mode, classes=10)).train().to(dtype)
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    tx = torch.optim.SGD(
        [{"params": kernels, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=RATE,
        momentum=MOMENTUM,
        nesterov=True,
    )
    for step, seed in enumerate(SEEDS):
        rise = (step + 1) / WARMUP
        fall = (TOTAL - step) / (TOTAL - WARMUP)
        for group in tx.param_groups:
            group["lr"] = RATE * min(rise, fall)
        images = images_of(seed, 4, 8, 8).to(dtype)
        labels = torch.from_numpy(np.random.default_rng(seed).integers(0, 10, 4))
        logits = network.logits(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        tx.zero_grad()
        loss.backward()
        tx.step()
        arrays[f"{mode}.{step}.loss"] = loss.detach().numpy()
        arrays[f"{mode}.{step}"] = np.concatenate(
            [
                some(value.numpy())
                for name, value in sorted(network.state_dict().items())
                if not name.endswith("num_batches_tracked")
            ]
        )
    return arrays


def some(array):
    """Up to 16 numbers out of an array."""
    flat = array.ravel()
    return flat[:: max(len(flat) // 16, 1)][:16].copy()


if __name__ == "__main__":
    main()
