"""Cases of PyTorch: our own code, as fast as PyTorch's own layers allow.

All cores, channels last, no gradients and no records of them where nothing is trained. Nothing of
posjax imports this.
"""

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.set_num_threads(len(os.sched_getaffinity(0)))
torch.backends.cudnn.benchmark = True
torch.set_float32_matmul_precision("highest")

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
RESNET50 = ((64, 3), (128, 4), (256, 6), (512, 3))
CHANNELS = 1472  # of all stages of a VGG-16


class Vgg(nn.Module):
    """VGG-16's five stages, after the last ReLU of each block."""

    def __init__(self) -> None:
        super().__init__()
        layers, inputs = [], 3
        for width in VGG16[:-1]:
            if width == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = width
        self.features = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The stages, [n, c, h, w] each."""
        stages = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                stages.append(x)
            x = layer(x)
        return [*stages, x]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_norm_conv(inputs, width, 1),
            nn.ReLU(inplace=True),
            *_norm_conv(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_norm_conv(width, 4 * width, 1),
        )
        same = inputs == 4 * width and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_norm_conv(inputs, 4 * width, 1, stride))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the shortcut to the three convolutions, then ReLU."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """ResNet-50's five stages: the stem before its pool, and the four layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_norm_conv(3, 64, 7, 2), nn.ReLU(inplace=True))
        self.pool, self.layers, inputs = nn.MaxPool2d(3, 2, 1), nn.ModuleList(), 64
        for width, count in RESNET50:
            blocks = []
            for i in range(count):
                blocks.append(Bottleneck(inputs, width, 2 if i == 0 and width > 64 else 1))
                inputs = 4 * width
            self.layers.append(nn.Sequential(*blocks))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The stages, [n, c, h, w] each."""
        stages = [self.stem(x)]
        x = self.pool(stages[0])
        for layer in self.layers:
            x = layer(x)
            stages.append(x)
        return stages


class Readout(nn.Module):
    """The readout of the released code: stages to 28x28, convolutions, the map at full size."""

    def __init__(self, depth: int, size: int) -> None:
        super().__init__()
        self.size, layers = size, []
        for i in range(depth):
            width = CHANNELS if i < depth - 1 else 1
            layers += [nn.Conv2d(CHANNELS, width, 3), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(inplace=True)] if i < depth - 1 else []
        self.layers = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        """Position maps [n, size, size]."""
        aligned = [
            x if x.shape[-1] == 28 else F.interpolate(x, 28, mode="bilinear", align_corners=True)
            for x in stages
        ]
        response = self.layers(torch.cat(aligned, dim=1))
        return F.interpolate(response, self.size, mode="bilinear")[:, 0]


def frozen_encoder(name: str) -> nn.Module:
    """A frozen encoder with random weights, in the layout that is fastest for convolutions."""
    module = {"vgg16": Vgg, "resnet50": ResNet}[name]()
    return module.eval().requires_grad_(False).to(DEVICE, memory_format=torch.channels_last)


def step_for(readout: Readout, target: torch.Tensor) -> Callable[[list[torch.Tensor]], None]:
    """One step of SGD on a batch of stages."""
    optimizer = torch.optim.SGD(readout.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    readout.train()

    def step(stages: list[torch.Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        prediction = readout(stages)
        F.mse_loss(prediction, target.expand_as(prediction)).backward()
        optimizer.step()

    return step


def forward(encoder: str, batch: int, size: int) -> Callable[[], None]:
    """All stages of an encoder with random weights."""
    module = frozen_encoder(encoder)
    images = torch.rand(batch, 3, size, size, device=DEVICE)
    images = images.contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            module(images)
        synchronize()

    return run


def training_step(depth: int, batch: int, size: int) -> Callable[[], None]:
    """One step of one readout on a batch of stages that lies in memory."""
    shapes = ((64, 28), (128, 28), (256, 28), (512, 28), (512, 14))
    stages = [
        torch.rand(batch, c, s, s, device=DEVICE).contiguous(memory_format=torch.channels_last)
        for c, s in shapes
    ]
    readout = Readout(depth, size).to(DEVICE, memory_format=torch.channels_last)
    step = step_for(readout, torch.linspace(0, 1, size, device=DEVICE).expand(size, size))

    def run() -> None:
        step(stages)
        synchronize()

    return run


def encoder_step(encoder: str, padding: str, batch: int, size: int) -> Callable[[], None]:
    """One step of training a CIFAR ResNet-20 on images that lie in memory."""
    if encoder != "resnet20":
        raise ValueError(f"encoder {encoder!r}: only resnet20 is here to be trained")
    network = CifarResNet(padding).to(DEVICE, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    images = torch.rand(batch, 3, size, size, device=DEVICE)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,), device=DEVICE)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        synchronize()

    return run


def synchronize() -> None:
    """Waits for the accelerator, if there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def about() -> dict[str, str]:
    """What this side computes on."""
    kind = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    return {"device": f"{kind}, {torch.get_num_threads()} threads"}


def _norm_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class CifarResNet(nn.Module):
    """ResNet-20 of He et al. for CIFAR-10: option-A shortcuts, ten classes."""

    def __init__(self, padding: str):
        super().__init__()
        self.stem = _padded_norm_conv(3, 16, 1, padding)
        widths = [16] * 3 + [32] * 3 + [64] * 3
        self.first, self.second = nn.ModuleList(), nn.ModuleList()
        inputs = 16
        for width in widths:
            self.first.append(_padded_norm_conv(inputs, width, width // inputs, padding))
            self.second.append(_padded_norm_conv(width, width, 1, padding))
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


def _padded_norm_conv(inputs: int, outputs: int, stride: int, padding: str) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False, padding_mode=padding)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))
