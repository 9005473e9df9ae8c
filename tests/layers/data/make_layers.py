"""Writes layers.npz beside this file: what PyTorch computes; needs torch, which the tests do not.

Inputs are drawn as `numpy.random.default_rng(seed).standard_normal(shape)`, NHWC, in float32.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

HERE = Path(__file__).parent

RESIZES = {
    "up": ((2, 5, 4, 2), (12, 9)),
    "down": ((2, 13, 11, 2), (5, 4)),
    "up_down": ((1, 5, 14, 2), (11, 6)),
    "down_up": ((1, 14, 5, 2), (6, 11)),
    "integer_up": ((1, 4, 3, 2), (12, 6)),
    "integer_down": ((1, 12, 8, 2), (4, 2)),
    "to_one": ((1, 6, 5, 2), (1, 1)),
    "from_one": ((1, 1, 1, 2), (3, 5)),
    "row": ((1, 1, 6, 2), (4, 9)),
    "column_to_row": ((1, 6, 1, 2), (1, 3)),
}
POOLS = {  # shape, window, stride, padding
    "vgg": ((2, 7, 10, 3), 2, 2, 0),
    "stem": ((2, 9, 12, 3), 3, 2, 1),
    "overlap": ((1, 8, 6, 2), 3, 1, 1),
    "wide": ((1, 11, 8, 2), 5, 3, 2),
}


def main():
    arrays = {}
    for name, (shape, size) in RESIZES.items():
        for align_corners in (False, True):
            x = functional.interpolate(
                draw(1, shape), size, mode="bilinear", align_corners=align_corners
            )
            arrays[f"resize.{name}.{align_corners}"] = last(x)
    for name, (shape, window, stride, padding) in POOLS.items():
        x = draw(2, shape).requires_grad_()
        y = functional.max_pool2d(x, window, stride, padding)
        y.backward(draw(3, last(y).shape))
        arrays[f"pool.{name}"], arrays[f"pool.{name}.grad"] = last(y), last(x.grad)
    norm = torch.nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 1.5]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, -0.3, 0.0]))
    for step in range(3):
        x = (3 * draw(10 + step, (3, 2, 4, 4)) + 2).requires_grad_()
        y = norm(x)
        norm.zero_grad()
        y.backward(draw(20 + step, (3, 2, 4, 4)))
        for key, value in {"y": last(y), "grad": last(x.grad)}.items():
            arrays[f"norm.{step}.{key}"] = value
        for key in ("running_mean", "running_var"):
            arrays[f"norm.{step}.{key}"] = getattr(norm, key).numpy().copy()
        for key in ("weight", "bias"):
            arrays[f"norm.{step}.{key}_grad"] = getattr(norm, key).grad.numpy().copy()
    arrays["norm.eval"] = last(norm.eval()(3 * draw(30, (3, 2, 4, 4)) + 2))
    np.savez_compressed(HERE / "layers.npz", **arrays)


def draw(seed, shape):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def last(x):
    return x.detach().permute(0, 2, 3, 1).numpy()


if __name__ == "__main__":
    main()
