"""The sections of the benchmark: most measure pairs, in turn, and yield one row for a pair."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from experiments.benchmarks.rows import Bench, Row
from experiments.benchmarks.tpu import Compiled, tpu_programs
from experiments.benchmarks.workers import Worker
from posjax.images import open_source

SIDES = {"posjax": "experiments.benchmarks.jax_side", "torch": "experiments.benchmarks.torch_side"}


def table1(bench: Bench) -> Iterator[Row]:
    """The whole Table 1 workload: VGG-16, five maps, from the command to the report."""
    s = bench.sizes
    train = bench.images or _photographs(bench.scratch / "train", s.num_train, s.image_size, 0)
    test = bench.test_images or _photographs(bench.scratch / "test", s.num_test, s.image_size, 1)
    maps = "H,V,G,HS,VS"
    common = [f"--images={train}", f"--test_images={test}"]
    common += [f"--num_train={s.num_train}", f"--num_test={s.num_test}"]
    ours = ["--encoder=vgg16", "--weights=random", "--paddings=zeros", f"--maps={maps}"]
    ours += ["--seeds=0", "--controls=none", "--compile_cache=", f"--image_size={s.image_size}"]
    ours += [f"--batch_size={s.batch}", f"--epochs={s.epochs}", *common]
    theirs = [f"--epochs={s.torch_epochs}", f"--batch={s.batch}", f"--size={s.image_size}", *common]
    a, b, parts = [], [], []
    for turn in range(bench.turns):
        workdir = f"--workdir={bench.scratch / f'table1-{turn}'}"
        a.append(_run("experiments.padding_ablation", *ours, workdir)[0])
        whole, printed = _run("experiments.benchmarks.torch_recipe", *theirs)
        part = json.loads(printed.splitlines()[-1])
        part["start"] = whole - sum(part["epochs"]) - part["evaluation"]
        parts.append(part)
        epoch = float(np.mean(part["epochs"]))
        b.append(part["start"] + len(maps.split(",")) * (s.epochs * epoch + part["evaluation"]))
    said = (
        f"PyTorch ran one map and {s.torch_epochs} epochs; its time is scaled: start + 5 maps x "
        f"({s.epochs} epochs x mean epoch + evaluation)"
    )
    yield Row(
        "table1",
        f"Table 1: vgg16, {maps}, {s.epochs} epochs",
        "posjax",
        "torch (scaled)",
        tuple(a),
        tuple(b),
        {"images": s.num_train, "test_images": s.num_test, "size": s.image_size, "batch": s.batch},
        {"scaled": said, "torch": parts},
    )


def encoder(bench: Bench) -> Iterator[Row]:
    """All stages of an encoder, forward."""
    s = bench.sizes
    sizes = {"batch": s.encoder_batch, "size": s.image_size}
    with Worker(SIDES["posjax"]) as ours, Worker(SIDES["torch"]) as theirs:
        for name in s.encoders:
            a = (ours, "forward", {"encoder": name, "padding": "zeros", **sizes})
            b = (theirs, "forward", {"encoder": name, **sizes})
            times = _in_turn(bench.turns, a, b)
            yield Row("encoder", f"{name} forward", "posjax", "torch", *times, sizes)


def padding(bench: Bench) -> Iterator[Row]:
    """Every mode that keeps the size, as data of one program, over zeros that are compiled in."""
    s = bench.sizes
    sizes = {"batch": s.encoder_batch, "size": s.image_size}
    with Worker(SIDES["posjax"]) as one, Worker(SIDES["posjax"]) as other:
        for name in s.encoders:
            for mode in s.modes:
                case = {"encoder": name, **sizes}
                a = (one, "forward", case | {"padding": mode, "as_data": True})
                times = _in_turn(bench.turns, a, (other, "forward", case | {"padding": "zeros"}))
                yield Row("padding", f"{name} {mode} over zeros", mode, "zeros", *times, sizes)


def readout_grid(bench: Bench) -> Iterator[Row]:
    """Training of many readouts on stored stages, over one encoder pass of the same images."""
    s = bench.sizes
    same = {"images": s.readout_images, "batch": s.batch, "size": s.image_size}
    with Worker(SIDES["posjax"]) as one, Worker(SIDES["posjax"]) as other:
        for count in s.readout_counts:
            a = (one, "readouts", {"count": count, "epochs": s.epochs, **same})
            b = (other, "encoder_pass", {"encoder": "vgg16", **same})
            times = _in_turn(bench.turns, a, b)
            name = f"{s.epochs} epochs of {count} readouts over one vgg16 pass"
            yield Row("readout", name, "training", "encoding", *times, {"epochs": s.epochs, **same})


def readout_step(bench: Bench) -> Iterator[Row]:
    """One training step of one readout."""
    s = bench.sizes
    with Worker(SIDES["posjax"]) as ours, Worker(SIDES["torch"]) as theirs:
        for depth in s.depths:
            case = {"depth": depth, "batch": s.batch, "size": s.image_size}
            a, b = ((side, "training_step", case) for side in (ours, theirs))
            times = _in_turn(bench.turns, a, b)
            yield Row("readout", f"step at depth {depth}", "posjax", "torch", *times, case)


def encoder_training(bench: Bench) -> Iterator[Row]:
    """One training step of a ResNet-20 on images of CIFAR's size."""
    case = {"encoder": "resnet20", "batch": bench.sizes.training_batch, "size": 32}
    with Worker(SIDES["posjax"]) as ours, Worker(SIDES["torch"]) as theirs:
        for mode in ("zeros", "reflect"):
            a, b = ((side, "encoder_step", case | {"padding": mode}) for side in (ours, theirs))
            times = _in_turn(bench.turns, a, b)
            yield Row("training", f"step of resnet20, {mode}", "posjax", "torch", *times, case)


class Part(NamedTuple):
    """A part of a section, and the module that it needs besides posjax."""

    run: Callable[[Bench], Iterator[Row | Compiled]]
    needs: str | None = None


# Others are added here.
SECTIONS: dict[str, tuple[Part, ...]] = {
    "table1": (Part(table1, "torch"),),
    "encoder": (Part(encoder, "torch"),),
    "padding": (Part(padding),),
    "readout": (Part(readout_grid), Part(readout_step, "torch")),
    "training": (Part(encoder_training, "torch"),),
    "tpu": (Part(tpu_programs, "libtpu"),),
}


def sides_about(sides: list[str]) -> dict[str, dict[str, str]]:
    """What each side computes on."""
    with ExitStack() as stack:
        return {side: stack.enter_context(Worker(SIDES[side])).call("about") for side in sides}


Case = tuple[Worker, str, dict[str, Any]]


def _in_turn(turns: int, a: Case, b: Case) -> tuple[tuple[float, ...], tuple[float, ...]]:
    numbers = [worker.prepare(case, **sizes) for worker, case, sizes in (a, b)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for (worker, _, _), number, found in zip((a, b), numbers, times, strict=True):
            found.append(worker.seconds(number))
    return tuple(times[0]), tuple(times[1])


def _run(module: str, *flags: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *flags], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(flags)} failed, its errors stand above")
    return time.perf_counter() - start, done.stdout


def _photographs(folder: Path, count: int, size: int, seed: int) -> str:
    """Generated JPEG files, a third wider and higher than what is read of them."""
    folder.mkdir()
    source = open_source("dead_leaves", size=size * 4 // 3, limit=count, seed=seed)
    for i in range(count):
        pixels = np.rint(source[i] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04}.jpg", quality=90)
    return str(folder)
