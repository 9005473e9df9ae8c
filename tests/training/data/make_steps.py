"""Writes steps.npz beside this file: steps of PyTorch's SGD; needs torch, which the tests do not.

The network and its parameters are those of `tests/encoders/data/make_stages.py`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[1] / "encoders" / "data"))

from make_stages import ResNet, images_of, numbered  # noqa: E402

STEPS, WARMUP, TOTAL = 3, 2, 6
RATE, MOMENTUM, DECAY, SMOOTHING = 0.1, 0.9, 5e-3, 0.1


def main():
    arrays = {}
    for mode in ("zeros", "reflect"):
        torch.manual_seed(0)
        network = numbered(ResNet("resnet20", mode, classes=10)).train()
        kernels = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        tx = torch.optim.SGD(
            [{"params": kernels, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
            lr=RATE,
            momentum=MOMENTUM,
            nesterov=True,
        )
        for step in range(STEPS):
            rise = (step + 1) / WARMUP
            fall = (TOTAL - step) / (TOTAL - WARMUP)
            for group in tx.param_groups:
                group["lr"] = RATE * min(rise, fall)
            images = images_of(step, 8, 16, 16)
            labels = torch.from_numpy(np.random.default_rng(step).integers(0, 10, 8))
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
    np.savez_compressed(HERE / "steps.npz", **arrays)


def some(array):
    """Up to 16 numbers out of an array."""
    flat = array.ravel()
    return flat[:: max(len(flat) // 16, 1)][:16].copy()


if __name__ == "__main__":
    main()
