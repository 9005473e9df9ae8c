"""Writes stages.npz beside this file: what PyTorch computes; needs torch, which the tests do not.

The networks are written in plain PyTorch with torchvision's names, and their parameters are drawn
from those names, so that the tests can draw the same ones.
"""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HERE = Path(__file__).parent

# Encoder, padding mode: seed of the images, their number, height and width.
CASES = {
    ("resnet18", "zeros"): (3, 1, 64, 97),
    **{
        ("resnet50", mode): (2, 1, 64, 97) for mode in ("zeros", "reflect", "replicate", "circular")
    },
    **{("vgg16", mode): (1, 1, 48, 65) for mode in ("zeros", "reflect", "replicate", "circular")},
    ("vgg16", "valid"): (1, 1, 200, 213),
    **{("vgg11_bn", mode): (4, 2, 48, 65) for mode in ("zeros", "reflect")},
    **{("resnet20", mode): (5, 2, 40, 33) for mode in ("zeros", "reflect", "circular")},
}
BLOCKS = {"vgg11_bn": (1, 1, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3)}
LAYERS = {"resnet18": (2, 2, 2, 2), "resnet20": (3, 3, 3), "resnet50": (3, 4, 6, 3)}


def main():
    arrays = {}
    for (name, mode), images in CASES.items():
        network = numbered(network_of(name, mode).eval())
        stages = network(images_of(*images))
        case = f"{name}_{mode}"
        for stage, x in stages.items():
            x = x.numpy()
            arrays[f"{case}.{stage}"] = x[points(x.shape)]
        arrays[f"{case}.shapes"] = np.array([x.permute(0, 2, 3, 1).shape for x in stages.values()])
        arrays[f"{case}.std"] = np.array([x.numpy().std() for x in stages.values()])
        print(case, arrays[f"{case}.shapes"].tolist())

    images = images_of(*CASES["resnet20", "zeros"])
    network = numbered(ResNet("resnet20", "zeros", classes=10).eval())
    arrays["resnet20.logits"] = network.logits(images).numpy()
    network.train()
    arrays["resnet20.train.f4"] = network(images)["f4"].permute(0, 2, 3, 1).numpy()
    for norm in ("bn1", "layer2.0.bn1", "layer3.2.bn2"):
        module = network.get_submodule(norm)
        arrays[f"resnet20.train.{norm}.mean"] = module.running_mean.numpy()
        arrays[f"resnet20.train.{norm}.var"] = module.running_var.numpy()

    for height, width in ((1, 3), (5, 7), (7, 7), (8, 13), (14, 21)):
        x = images_of(6, 1, height, width)
        pooled = functional.adaptive_avg_pool2d(x, 7).permute(0, 2, 3, 1)
        arrays[f"adaptive.{height}x{width}"] = pooled.numpy()
    np.savez_compressed(HERE / "stages.npz", **arrays)


def images_of(seed, n, height, width):
    x = np.random.default_rng(seed).uniform(0, 1, (n, height, width, 3)).astype(np.float32)
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def points(shape):
    """Of [n, c, h, w]: rows and columns at the borders and inside, every eighth channel."""
    ys, xs = (sorted({0, 1, 2, s // 3, s // 2, s - 2, s - 1} & {*range(s)}) for s in shape[2:])
    channels = np.arange(8) * (shape[1] // 8)
    images, ys, xs, channels = np.ix_(range(shape[0]), ys, xs, channels)
    return images, channels, ys, xs


def numbered(network):
    """Draws every parameter from the hash of its name."""
    state = {}
    for name, old in network.state_dict().items():
        numbers, shape = np.random.default_rng(zlib.crc32(name.encode())), tuple(old.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            new = numbers.uniform(0.5, 1.5, shape)
        elif len(shape) >= 2:
            new = numbers.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("weight"):
            new = numbers.uniform(0.5, 1.0, shape)
        else:
            new = 0.1 * numbers.standard_normal(shape)
        state[name] = torch.from_numpy(new.astype(np.float32))
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return network


def network_of(name, mode):
    return VGG(name, mode) if name.startswith("vgg") else ResNet(name, mode)


def convolution(inputs, outputs, size, stride, mode, bias=False):
    padding = 0 if mode == "valid" else size // 2
    mode = mode if padding and mode != "valid" else "zeros"
    return nn.Conv2d(inputs, outputs, size, stride, padding, bias=bias, padding_mode=mode)


class VGG(nn.Module):
    def __init__(self, name, mode):
        super().__init__()
        layers, inputs = [], 3
        for width, count in zip((64, 128, 256, 512, 512), BLOCKS[name], strict=True):
            for _ in range(count):
                layers.append(convolution(inputs, width, 3, 1, mode, bias=True))
                layers += [nn.BatchNorm2d(width)] if name.endswith("_bn") else []
                layers.append(nn.ReLU())
                inputs = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)

    def forward(self, x):
        stages = {}
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                stages[f"f{len(stages) + 1}"] = x
                if len(stages) == 5:
                    return stages
            x = layer(x)


class ResNet(nn.Module):
    def __init__(self, name, mode, classes=None):
        super().__init__()
        self.cifar = name == "resnet20"
        kind = Bottleneck if name == "resnet50" else Basic
        inputs = 16 if self.cifar else 64
        size, stride = (3, 1) if self.cifar else (7, 2)
        self.conv1 = convolution(3, inputs, size, stride, mode)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.names, width = [], inputs
        for i, count in enumerate(LAYERS[name]):
            blocks = []
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(kind(inputs, width, stride, mode, self.cifar))
                inputs = width * kind.expansion
            self.names.append(f"layer{i + 1}")
            setattr(self, self.names[-1], nn.Sequential(*blocks))
            width *= 2
        if classes is not None:
            self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        stages = {"f1": x}
        if not self.cifar:
            x = functional.max_pool2d(x, 3, 2, 1)
        for name in self.names:
            x = getattr(self, name)(x)
            stages[f"f{len(stages) + 1}"] = x
        return stages

    def logits(self, x):
        return self.linear(self(x)["f4"].mean((2, 3)))


class Basic(nn.Module):
    expansion = 1

    def __init__(self, inputs, width, stride, mode, cifar):
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride, mode)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, 1, mode)
        self.bn2 = nn.BatchNorm2d(width)
        self.cifar, self.width = cifar, width
        if inputs != width and not cifar:
            self.downsample = projection(inputs, width, stride)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        elif x.shape != y.shape:
            quarter = self.width // 4
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        return functional.relu(x + y)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, width, stride, mode, cifar):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride, mode)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        if inputs != 4 * width:
            self.downsample = projection(inputs, 4 * width, stride)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def projection(inputs, outputs, stride):
    convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


if __name__ == "__main__":
    with torch.no_grad():
        main()
