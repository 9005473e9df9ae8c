"""The sections of the benchmark: most time pairs, in turn, and yield one row for a pair."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from experiments.benchmarks.sizes import Bench
from experiments.benchmarks.tables import Row, pair_row
from experiments.benchmarks.tpu import tpu_programs
from experiments.benchmarks.workers import Worker
from posjax.images import open_source

MODULES = {
    "posjax": "experiments.benchmarks.jax_side",
    "torch": "experiments.benchmarks.torch_side",
}


class Side(NamedTuple):
    """What is timed: the side's label, its module of `MODULES`, its case, and the arguments."""

    label: str
    module: str
    case: str
    arguments: dict[str, Any]


class Pair(NamedTuple):
    """Two sides that are timed in turn, and the sizes that JSON gets."""

    name: str
    a: Side
    b: Side
    sizes: dict[str, Any]


class Part(NamedTuple):
    """A part of a section: its rows, or pairs to time; the module that it needs besides posjax."""

    run: Callable[[Bench], Iterator[Row | Pair]]
    needs: str | None = None


def rows_of(section: str, part: Part, bench: Bench) -> Iterator[Row]:
    """The rows of a part; its pairs are timed, each side in a process of its own."""
    workers: dict[tuple[str, str], Worker] = {}
    try:
        for item in part.run(bench):
            if not isinstance(item, Pair):
                yield item
                continue
            times, ready = {"a": [], "b": []}, {}
            for place, side in (("a", item.a), ("b", item.b)):
                worker = workers.setdefault((place, side.module), Worker(MODULES[side.module]))
                ready[place] = worker, worker.prepare(side.case, **side.arguments)
            for _ in range(bench.turns):
                for place, (worker, number) in ready.items():
                    times[place].append(worker.seconds(number))
            labels = (item.a.label, item.b.label)
            yield pair_row(section, item.name, labels, [*times.values()], sizes=item.sizes)
    finally:
        for worker in workers.values():
            worker.__exit__()


def encoder(bench: Bench) -> Iterator[Pair]:
    """All stages of an encoder, forward."""
    sizes = {"batch": bench.sizes.encoder_batch, "size": bench.sizes.image_size}
    for name in bench.sizes.encoders:
        case = {"encoder": name, **sizes}
        a = Side("posjax", "posjax", "forward", {"padding": "zeros", **case})
        yield Pair(f"{name} forward", a, Side("torch", "torch", "forward", case), sizes)


def padding(bench: Bench) -> Iterator[Pair]:
    """Every mode that keeps the size, as data of one program, over zeros that are compiled in."""
    sizes = {"batch": bench.sizes.encoder_batch, "size": bench.sizes.image_size}
    for name in bench.sizes.encoders:
        for mode in bench.sizes.modes:
            case = {"encoder": name, **sizes}
            a = Side(mode, "posjax", "forward", case | {"padding": mode, "as_data": True})
            b = Side("zeros", "posjax", "forward", case | {"padding": "zeros"})
            yield Pair(f"{name} {mode} over zeros", a, b, sizes)


def readout_grid(bench: Bench) -> Iterator[Pair]:
    """Training of many readouts on stored stages, over one encoder pass of the same images."""
    s = bench.sizes
    same = {"images": s.readout_images, "batch": s.batch, "size": s.image_size}
    for count in s.readout_counts:
        case = {"count": count, "epochs": s.epochs, **same}
        a = Side("training", "posjax", "readouts", case)
        b = Side("encoding", "posjax", "encoder_pass", {"encoder": "vgg16", **same})
        name = f"{s.epochs} epochs of {count} readouts over one vgg16 pass"
        yield Pair(name, a, b, {"epochs": s.epochs, **same})


def readout_step(bench: Bench) -> Iterator[Pair]:
    """One training step of one readout."""
    for depth in bench.sizes.depths:
        case = {"depth": depth, "batch": bench.sizes.batch, "size": bench.sizes.image_size}
        a, b = (Side(side, side, "training_step", case) for side in MODULES)
        yield Pair(f"step at depth {depth}", a, b, case)


def encoder_training(bench: Bench) -> Iterator[Pair]:
    """One training step of a ResNet-20 on images of CIFAR's size."""
    case = {"encoder": "resnet20", "batch": bench.sizes.training_batch, "size": 32}
    for mode in ("zeros", "reflect"):
        a, b = (Side(side, side, "encoder_step", case | {"padding": mode}) for side in MODULES)
        yield Pair(f"step of resnet20, {mode}", a, b, case)


def table1(bench: Bench) -> Iterator[Row]:
    """The whole Table 1 workload: VGG-16, five maps, from the command to the report."""
    s, maps = bench.sizes, "H,V,G,HS,VS"
    train = bench.images or _photographs(bench.scratch / "train", s.num_train, s.image_size, 0)
    test = bench.test_images or _photographs(bench.scratch / "test", s.num_test, s.image_size, 1)
    counts = {"num_train": s.num_train, "num_test": s.num_test}
    images = {"images": train, "test_images": test, **counts}
    ours = {"encoder": "vgg16", "weights": "random", "paddings": "zeros", "maps": maps}
    ours |= {"seeds": 0, "controls": "none", "compile_cache": "", "image_size": s.image_size}
    ours |= {"batch_size": s.batch, "epochs": s.epochs, **images}
    theirs = {"epochs": s.torch_epochs, "batch": s.batch, "size": s.image_size, **images}
    a, b, parts = [], [], []
    for turn in range(bench.turns):
        flags = ours | {"workdir": bench.scratch / f"table1-{turn}"}
        command = [f"--{name}={value}" for name, value in flags.items()]
        a.append(_run("experiments.padding_ablation", *command)[0])
        whole, printed = _run("experiments.benchmarks.torch_recipe", json.dumps(theirs))
        part = json.loads(printed.splitlines()[-1])
        part["start"] = whole - sum(part["epochs"]) - part["evaluation"]
        parts.append(part)
        one_map = s.epochs * float(np.mean(part["epochs"])) + part["evaluation"]
        b.append(part["start"] + len(maps.split(",")) * one_map)
    remark = (
        f"PyTorch ran one map and {s.torch_epochs} epochs; its time is scaled: start + 5 maps x "
        f"({s.epochs} epochs x mean epoch + evaluation)"
    )
    sizes = {"images": s.num_train, "test_images": s.num_test}
    sizes |= {"size": s.image_size, "batch": s.batch}
    name, labels = f"Table 1: vgg16, {maps}, {s.epochs} epochs", ("posjax", "torch (scaled)")
    yield pair_row("table1", name, labels, (a, b), sizes=sizes, torch=parts, remark=remark)


def _run(module: str, *arguments: str) -> tuple[float, str]:
    start = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def _photographs(folder: Path, count: int, size: int, seed: int) -> str:
    """Generated JPEG files, a third wider and higher than what is read of them."""
    folder.mkdir()
    source = open_source("dead_leaves", size=size * 4 // 3, limit=count, seed=seed)
    for i in range(count):
        pixels = np.rint(source[i] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04}.jpg", quality=90)
    return str(folder)


SECTIONS: dict[str, tuple[Part, ...]] = {
    "table1": (Part(table1, "torch"),),
    "encoder": (Part(encoder, "torch"),),
    "padding": (Part(padding),),
    "readout": (Part(readout_grid), Part(readout_step, "torch")),
    "training": (Part(encoder_training, "torch"),),
    "tpu": (Part(tpu_programs, "libtpu"),),
}
