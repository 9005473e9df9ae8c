"""The sections of the benchmark: each yields its rows, one for a pair of cases."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.benchmarks.sizes import Sizes
from experiments.benchmarks.timing import Case, Row, call, new_process, pair_row, time_pair
from experiments.benchmarks.tpu import tpu_programs
from posjax.images import open_source

SIDES = {"posjax": "jax_side", "torch": "torch_side"}


def encoder(sizes: Sizes) -> Iterator[Row]:
    """All stages of an encoder, forward, beside PyTorch."""
    for name in sizes.encoders:
        same = {"encoder": name, "batch": sizes.forward_batch, "size": sizes.image_size}
        a = Case("posjax", SIDES["posjax"], "forward", {"padding": "zeros", **same})
        b = Case("torch", SIDES["torch"], "forward", same)
        yield time_pair(f"{name} forward", a, b, sizes.turns, sizes=same)


def padding(sizes: Sizes) -> Iterator[Row]:
    """Every mode that keeps the size, as data of a program, beside zeros that are compiled in."""
    for name in sizes.encoders:
        same = {"encoder": name, "batch": sizes.forward_batch, "size": sizes.image_size}
        b = Case("zeros", SIDES["posjax"], "forward", {"padding": "zeros", **same})
        for mode in sizes.modes:
            as_data = {"padding": mode, "as_data": True, **same}
            a = Case(mode, SIDES["posjax"], "forward", as_data)
            yield time_pair(f"{name} {mode} over zeros", a, b, sizes.turns, sizes=same)


def training(sizes: Sizes) -> Iterator[Row]:
    """One training step of a ResNet-20 on images of CIFAR's size, beside PyTorch."""
    for mode in ("zeros", "reflect"):
        same = {"padding": mode, "batch": sizes.training_batch}
        a, b = (Case(side, module, "resnet20_step", same) for side, module in SIDES.items())
        yield time_pair(f"step of resnet20, {mode}", a, b, sizes.turns, sizes=same)


def table1(sizes: Sizes) -> Iterator[Row]:
    """The whole Table 1 workload: VGG-16, five maps, from the command to the report."""
    maps = ("H", "V", "G", "HS", "VS")
    seconds: tuple[list[float], list[float]] = ([], [])
    parts = []
    with tempfile.TemporaryDirectory(prefix="posjax-benchmark-") as scratch:
        folders = {
            "images": sizes.images or _photographs(f"{scratch}/train", sizes.num_train, sizes, 0),
            "test_images": sizes.test_images
            or _photographs(f"{scratch}/test", sizes.num_test, sizes, 1),
        }
        for turn in range(sizes.turns):
            seconds[0].append(_run_posjax(f"{scratch}/run-{turn}", folders, maps, sizes))
            parts.append(_run_torch(folders, sizes))
            epochs = sizes.epochs * np.mean(parts[-1]["epochs"])
            one_map = float(epochs) + parts[-1]["evaluation"]
            seconds[1].append(parts[-1]["start"] + len(maps) * one_map)
    remark = (
        f"PyTorch ran one map and {sizes.torch_epochs} epochs; its time is scaled: start + "
        f"{len(maps)} maps x ({sizes.epochs} epochs x mean epoch + evaluation)"
    )
    name = f"Table 1: vgg16, {','.join(maps)}, {sizes.epochs} epochs"
    yield pair_row(name, ("posjax", "torch (scaled)"), seconds, torch=parts, remark=remark)


def _run_posjax(
    workdir: str, folders: dict[str, str], maps: tuple[str, ...], sizes: Sizes
) -> float:
    """The seconds of the whole command, with nothing compiled before."""
    flags = {
        **{"encoder": "vgg16", "weights": "random", "paddings": "zeros", "maps": ",".join(maps)},
        **{"seeds": 0, "controls": "none", "compile_cache": "", "image_size": sizes.image_size},
        **{"batch_size": sizes.batch, "epochs": sizes.epochs, "workdir": workdir, **folders},
        **{"num_train": sizes.num_train, "num_test": sizes.num_test},
    }
    command = [sys.executable, "-m", "experiments.padding_ablation"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _run_torch(folders: dict[str, str], sizes: Sizes) -> dict:
    """The seconds of each epoch, of the evaluation, and of all before them."""
    work = {"epochs": sizes.torch_epochs, "batch": sizes.batch, "size": sizes.image_size}
    work |= {
        "train": (folders["images"], sizes.num_train),
        "test": (folders["test_images"], sizes.num_test),
    }
    start = time.perf_counter()
    with new_process() as process:
        case = Case("torch", "torch_recipe", "train_one_map", work)
        part = process.submit(call, case).result()
        whole = time.perf_counter() - start
    return part | {"start": whole - sum(part["epochs"]) - part["evaluation"]}


def _photographs(folder: str, count: int, sizes: Sizes, seed: int) -> str:
    """Generated JPEG files, a third wider and higher than what is read of them."""
    Path(folder).mkdir()
    source = open_source("dead_leaves", size=sizes.image_size * 4 // 3, limit=count, seed=seed)
    for i in range(count):
        pixels = np.rint(source[i] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(f"{folder}/{i:04}.jpg", quality=90)
    return folder


SECTIONS: dict[str, tuple[Callable[[Sizes], Iterator[Row]], str | None]] = {
    "table1": (table1, "torch"),
    "encoder": (encoder, "torch"),
    "padding": (padding, None),
    "training": (training, "torch"),
    "tpu": (tpu_programs, "libtpu"),
}
"""Every section, with the module that it needs besides those of posjax."""
