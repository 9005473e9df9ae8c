"""The released recipe in PyTorch: one map, and the encoder in every epoch again."""

import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from experiments.benchmarks.torch_side import (
    DEVICE,
    Readout,
    frozen_encoder,
    on_device,
    sgd,
    synchronize,
)


class Photographs(Dataset):
    """The images of a folder, resized to a square: uint8 [3, size, size]."""

    def __init__(self, folder: str, count: int, size: int) -> None:
        self.paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())[:count]
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            square = image.convert("RGB").resize((self.size,) * 2, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)


def train_one_map(
    train: tuple[str, int], test: tuple[str, int], epochs: int, batch: int, size: int
) -> dict:
    """Trains one readout and scores it, on so many images of two folders.

    Returns the seconds of each epoch under "epochs", and those of the evaluation.
    """
    # Decoding beside the encoder: processes that the encoder need not wait for.
    options = {"batch_size": batch, "num_workers": min(2, len(os.sched_getaffinity(0)))}
    shuffled = {"shuffle": True, "persistent_workers": True}
    train_images = DataLoader(Photographs(*train, size), **options, **shuffled)
    encoder = frozen_encoder("vgg16")
    readout = on_device(Readout(size))
    target = torch.linspace(0, 1, size, device=DEVICE).expand(size, size)

    def loss(stages: list[torch.Tensor]) -> torch.Tensor:
        prediction = readout(stages)
        return F.mse_loss(prediction, target.expand_as(prediction))

    step = sgd(readout, loss, weight_decay=1e-4)

    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for images in train_images:
            step(_stages(encoder, images))
        synchronize()
        seconds.append(time.perf_counter() - start)
    readout.eval()
    start = time.perf_counter()
    for images in DataLoader(Photographs(*test, size), **options):
        stages = _stages(encoder, images)
        with torch.inference_mode():
            prediction = readout(stages)
            scores = (_spc(prediction, target), (prediction - target).abs().mean((1, 2)))
            [score.cpu() for score in scores]
    return {"epochs": seconds, "evaluation": time.perf_counter() - start}


def _stages(encoder: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.to(DEVICE, non_blocking=True).float().div_(255)
    # no_grad: what comes from inference_mode could not stand under a gradient.
    with torch.no_grad():
        return encoder(on_device(images))


def _spc(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    # Ties in the order of the pixels: quicker than scipy's ranks, and good enough for a clock.
    ranks = [
        x.flatten(-2).argsort(dim=-1).argsort(dim=-1).double() for x in (prediction, target[None])
    ]
    a, b = (r - r.mean(dim=-1, keepdim=True) for r in ranks)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
