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


class Staged(nn.Module):
    """Parts, one behind the other, whose results are the stages [n, c, h, w]."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The stages, [n, c, h, w] each."""
        return [x := part(x) for part in self.parts]


def vgg16() -> Staged:
    """VGG-16's five stages, after the last ReLU of each block."""
    parts, inputs = [], 3
    for i, widths in enumerate(VGG16):
        layers = [nn.MaxPool2d(2)] if i else []
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        parts.append(nn.Sequential(*layers))
    return Staged(parts)


def resnet50() -> Staged:
    """ResNet-50's five stages: the stem before its pool, and the four layers."""
    parts, inputs = [nn.Sequential(*_norm_conv(3, 64, 7, 2), nn.ReLU(inplace=True))], 64
    for width, count in RESNET50:
        blocks = [] if len(parts) > 1 else [nn.MaxPool2d(3, 2, 1)]
        for i in range(count):
            blocks.append(Bottleneck(inputs, width, 2 if i == 0 and width > 64 else 1))
            inputs = 4 * width
        parts.append(nn.Sequential(*blocks))
    return Staged(parts)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        relu = nn.ReLU(inplace=True)
        first, second = _norm_conv(inputs, width, 1), _norm_conv(width, width, 3, stride)
        self.body = nn.Sequential(*first, relu, *second, relu, *_norm_conv(width, 4 * width, 1))
        same = inputs == 4 * width and stride == 1
        self.shortcut = nn.Sequential(*([] if same else _norm_conv(inputs, 4 * width, 1, stride)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the shortcut to the three convolutions, then ReLU."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class Readout(nn.Module):
    """The readout of the released code: stages to 28x28, convolutions, the map at full size."""

    def __init__(self, depth: int, size: int) -> None:
        super().__init__()
        self.size, layers, options = size, [], {"padding": 0, "bias": True}
        for _ in range(depth - 1):
            layers += [*_norm_conv(CHANNELS, CHANNELS, 3, **options), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, *_norm_conv(CHANNELS, 1, 3, **options), nn.Sigmoid())

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        """Position maps [n, size, size]."""
        aligned = [
            x if x.shape[-1] == 28 else F.interpolate(x, 28, mode="bilinear", align_corners=True)
            for x in stages
        ]
        response = self.layers(torch.cat(aligned, dim=1))
        return F.interpolate(response, self.size, mode="bilinear")[:, 0]


class CifarResNet(nn.Module):
    """ResNet-20 of He et al. for CIFAR-10: option-A shortcuts, ten classes."""

    def __init__(self, padding: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_norm_conv(3, 16, 3, padding_mode=padding))
        self.first, self.second, inputs = nn.ModuleList(), nn.ModuleList(), 16
        for width in [16] * 3 + [32] * 3 + [64] * 3:
            pair = (inputs, width, 3, width // inputs), (width, width, 3)
            first, second = (
                nn.Sequential(*_norm_conv(*sizes, padding_mode=padding)) for sizes in pair
            )
            self.first.append(first)
            self.second.append(second)
            inputs = width
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [n, 10]."""
        x = F.relu(self.stem(x))
        for first, second in zip(self.first, self.second, strict=True):
            y = second(F.relu(first(x)))
            if y.shape != x.shape:
                extra = (y.shape[1] - x.shape[1]) // 2
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra))
            x = F.relu(x + y)
        return self.head(x.mean((2, 3)))


def _norm_conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, **options: Any
) -> list[nn.Module]:
    """A convolution that keeps the size, unless its options say otherwise, and BatchNorm."""
    options = {"padding": kernel // 2, "bias": False, **options}
    return [nn.Conv2d(inputs, outputs, kernel, stride, **options), nn.BatchNorm2d(outputs)]


def on_device(module: nn.Module | torch.Tensor) -> nn.Module | torch.Tensor:
    """A module or images on the accelerator, in the layout that is fastest for convolutions."""
    return module.to(DEVICE, memory_format=torch.channels_last)


def frozen_encoder(name: str) -> nn.Module:
    """A frozen encoder with random weights."""
    return on_device({"vgg16": vgg16, "resnet50": resnet50}[name]().eval().requires_grad_(False))


def sgd(module: nn.Module, **options: Any) -> Callable[[Callable[[], torch.Tensor]], None]:
    """Steps of SGD on the loss that a function gives."""
    optimizer = torch.optim.SGD(module.train().parameters(), lr=0.1, momentum=0.9, **options)

    def step(loss: Callable[[], torch.Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def readout_step(depth: int, size: int) -> tuple[nn.Module, torch.Tensor, Callable]:
    """A readout, the map that it learns, and its step on a batch of stages."""
    readout = on_device(Readout(depth, size))
    target = torch.linspace(0, 1, size, device=DEVICE).expand(size, size)
    step = sgd(readout, weight_decay=1e-4)

    def loss(stages: list[torch.Tensor]) -> torch.Tensor:
        prediction = readout(stages)
        return F.mse_loss(prediction, target.expand_as(prediction))

    return readout, target, lambda stages: step(lambda: loss(stages))


def forward(encoder: str, batch: int, size: int) -> Callable[[], None]:
    """All stages of an encoder with random weights."""
    module, images = frozen_encoder(encoder), on_device(torch.rand(batch, 3, size, size))

    def run() -> None:
        with torch.inference_mode():
            module(images)
        synchronize()

    return run


def training_step(depth: int, batch: int, size: int) -> Callable[[], None]:
    """One step of one readout on a batch of stages that lies in memory."""
    shapes = ((64, 28), (128, 28), (256, 28), (512, 28), (512, 14))
    stages = [on_device(torch.rand(batch, c, s, s)) for c, s in shapes]
    _, _, step = readout_step(depth, size)

    def run() -> None:
        step(stages)
        synchronize()

    return run


def encoder_step(encoder: str, padding: str, batch: int, size: int) -> Callable[[], None]:
    """One step of training a CIFAR ResNet-20 on images that lie in memory."""
    if encoder != "resnet20":
        raise ValueError(f"encoder {encoder!r}: only resnet20 is here to be trained")
    network = on_device(CifarResNet(padding))
    step = sgd(network, weight_decay=5e-4, nesterov=True)
    images = on_device(torch.rand(batch, 3, size, size))
    labels = torch.randint(0, 10, (batch,), device=DEVICE)

    def run() -> None:
        step(lambda: F.cross_entropy(network(images), labels))
        synchronize()

    return run


def synchronize() -> None:
    """Waits for the accelerator, if there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def about() -> str:
    """What this side computes on."""
    kind = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    return f"{kind}, {torch.get_num_threads()} threads"
