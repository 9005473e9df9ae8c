"""Cases of PyTorch: our code, as fast as PyTorch's layers allow.

All cores, channels last, no gradients and no records of them where nothing is trained. Nothing of
posjax imports this.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.set_num_threads(len(os.sched_getaffinity(0)))
torch.backends.cudnn.benchmark = True
torch.set_float32_matmul_precision("highest")

VGG16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
RESNET50 = ((64, 3), (128, 4), (256, 6), (512, 3))
CHANNELS = 1472  # of all stages of a VGG-16


class Staged(nn.Sequential):
    """Parts, one behind the other, whose results are the stages [n, c, h, w]."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The stages, [n, c, h, w] each."""
        return [x := part(x) for part in self]


class Residual(nn.Module):
    """Convolutions around a shortcut, then ReLU."""

    def __init__(self, body: list[nn.Module], shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = nn.Sequential(*body), shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The response [n, c, h, w]."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class OptionA(nn.Module):
    """The shortcut of CIFAR's ResNets: every second pixel, and channels of zeros around."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, 2 c, h / 2, w / 2]."""
        extra = x.shape[1] // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra))


class Readout(nn.Module):
    """The readout of the released code: stages to 28x28, a convolution, the map at full size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.layers = size, nn.Sequential(nn.Conv2d(CHANNELS, 1, 3), nn.BatchNorm2d(1))

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        """Position maps [n, size, size]."""
        aligned = [
            x if x.shape[-1] == 28 else F.interpolate(x, 28, mode="bilinear", align_corners=True)
            for x in stages
        ]
        response = torch.sigmoid(self.layers(torch.cat(aligned, dim=1)))
        return F.interpolate(response, self.size, mode="bilinear")[:, 0]


def frozen_encoder(name: str) -> nn.Module:
    """A frozen encoder with random weights."""
    return on_device({"vgg16": _vgg16, "resnet50": _resnet50}[name]().eval().requires_grad_(False))


def on_device(module: nn.Module | torch.Tensor) -> nn.Module | torch.Tensor:
    """A module or images on the accelerator, in the layout that is fastest for convolutions."""
    return module.to(DEVICE, memory_format=torch.channels_last)


def sgd(module: nn.Module, loss: Callable, **options: Any) -> Callable[[Any], None]:
    """A step of SGD on the loss of a batch."""
    optimizer = torch.optim.SGD(module.train().parameters(), lr=0.1, momentum=0.9, **options)

    def step(batch: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(batch).backward()
        optimizer.step()

    return step


def forward(encoder: str, batch: int, size: int) -> Callable[[], None]:
    """All stages of an encoder with random weights."""
    module, images = frozen_encoder(encoder), on_device(torch.rand(batch, 3, size, size))

    @torch.inference_mode()
    def encode(images: torch.Tensor) -> None:
        module(images)

    return _waiting(encode, images)


def resnet20_step(padding: str, batch: int) -> Callable[[], None]:
    """One step of training a CIFAR ResNet-20, on images that lie in memory."""
    network = on_device(_resnet20(padding))
    images = on_device(torch.rand(batch, 3, 32, 32))
    labels = torch.randint(0, 10, (batch,), device=DEVICE)
    options = {"weight_decay": 5e-4, "nesterov": True}
    step = sgd(network, lambda x: F.cross_entropy(network(x), labels), **options)
    return _waiting(step, images)


def synchronize() -> None:
    """Waits for the accelerator, if there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def about() -> str:
    """What this side computes on."""
    kind = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    return f"{kind}, {torch.get_num_threads()} threads"


def _waiting(function: Callable, batch: Any) -> Callable[[], None]:
    """Calls a function and waits for its result."""

    def run() -> None:
        function(batch)
        synchronize()

    return run


def _vgg16() -> Staged:
    """VGG-16's five stages, after the last ReLU of each block."""
    parts, inputs = [], 3
    for i, widths in enumerate(VGG16):
        layers = [nn.MaxPool2d(2)] if i else []
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        parts.append(nn.Sequential(*layers))
    return Staged(*parts)


def _resnet50() -> Staged:
    """ResNet-50's five stages: the stem before its pool, and the four layers."""
    relu = nn.ReLU(inplace=True)
    parts, inputs = [nn.Sequential(*_norm_conv(3, 64, 7, 2), relu)], 64
    for width, count in RESNET50:
        blocks = [] if len(parts) > 1 else [nn.MaxPool2d(3, 2, 1)]
        for i in range(count):
            stride = 2 if i == 0 and width > 64 else 1
            body = [*_norm_conv(inputs, width, 1), relu, *_norm_conv(width, width, 3, stride), relu]
            body += _norm_conv(width, 4 * width, 1)
            projection = _norm_conv(inputs, 4 * width, 1, stride) if i == 0 else []
            blocks.append(Residual(body, nn.Sequential(*projection)))
            inputs = 4 * width
        parts.append(nn.Sequential(*blocks))
    return Staged(*parts)


def _resnet20(padding: str) -> nn.Module:
    """ResNet-20 of He et al. for CIFAR-10: option-A shortcuts, ten classes."""
    relu, how, inputs = nn.ReLU(inplace=True), {"padding_mode": padding}, 16
    layers = [*_norm_conv(3, 16, 3, **how), relu]
    for width in [16] * 3 + [32] * 3 + [64] * 3:
        body = [*_norm_conv(inputs, width, 3, width // inputs, **how), relu]
        body += _norm_conv(width, width, 3, **how)
        layers.append(Residual(body, nn.Identity() if width == inputs else OptionA()))
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _norm_conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, **options: Any
) -> list[nn.Module]:
    """A convolution that keeps the size, unless its options say otherwise, and BatchNorm."""
    options = {"padding": kernel // 2, "bias": False, **options}
    return [nn.Conv2d(inputs, outputs, kernel, stride, **options), nn.BatchNorm2d(outputs)]
