"""What the TPU's own compiler makes of a run's programs, on a machine without a TPU.

libtpu brings the compiler. It is given a description of a TPU, and tells of every operation how
many cycles it expects it to take. Nothing runs: times are its estimates, and seconds to compile
those of this machine's processor.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from experiments.benchmarks.rows import DATA, Bench, Sizes
from experiments.benchmarks.workers import Worker

CLOCK = 1.5e9  # of a TPU v5e, hertz
PEAK = 197e12  # its bfloat16 multiplications and additions in a second
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    # What libtpu would ask the machine that it runs in.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # Another program may hold a TPU, or compile for one.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # What was compiled before would take no seconds.
    "JAX_ENABLE_COMPILATION_CACHE": "0",
}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program as compiled for `devices` of a TPU v5e: what one of them does, and needs.

    `endless` loops of unknown length count once; `missing` counts operations without an estimate.
    `flops` are those of products. `memory` is in bytes; `over` names the program that `ratio` is
    to.
    """

    section: str
    name: str
    devices: int
    sizes: dict[str, Any]
    cycles: int
    endless: int
    missing: dict[str, int]
    flops: int
    memory: dict[str, int]
    compile_seconds: float
    over: str | None = None
    ratio: float | None = None

    TITLE: ClassVar = (
        "what the TPU's compiler expects of each program on one device of a v5e; of peak: its "
        "products' part of 197e12 in bfloat16"
    )
    HEAD: ClassVar = ("", "M cycles", "ms", "of peak", "HBM, GB", "s to compile", "over zeros")
    WIDTHS: ClassVar = (40, 10, 9, 9, 9, 14, 0)

    @property
    def seconds(self) -> float:
        """The cycles at the TPU's clock."""
        return self.cycles / CLOCK

    @property
    def part_of_peak(self) -> float:
        """Its products in a second, over the most that there can be in bfloat16."""
        return self.flops / self.seconds / PEAK

    @property
    def hbm_bytes(self) -> int:
        """The memory that it needs: results in the place of arguments count once."""
        kinds = ("argument", "output", "temp")
        return sum(self.memory[kind] for kind in kinds) - self.memory["alias"]

    def as_json(self) -> dict[str, Any]:
        """All that there is to tell."""
        return dataclasses.asdict(self) | {
            "milliseconds": 1e3 * self.seconds,
            "part_of_peak": self.part_of_peak,
            "hbm_bytes": self.hbm_bytes,
        }

    def cells(self) -> tuple[str, ...]:
        """What stands below `HEAD`."""
        return (
            self.name,
            f"{self.cycles / 1e6:.2f}",
            f"{1e3 * self.seconds:.2f}",
            f"{self.part_of_peak:.3f}",
            f"{self.hbm_bytes / 1e9:.2f}",
            f"{self.compile_seconds:.1f}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
        )

    def remarks(self) -> list[str]:
        """What stands below the cells: what its cycles leave out."""
        found = [f"{count} x {name}" for name, count in self.missing.items()]
        if found:
            found = [f"without an estimate, and not counted: {', '.join(found)}"]
        if self.endless:
            found.append(f"loops of unknown length, counted once: {self.endless}")
        return found


def tpu_programs(bench: Bench) -> Iterator[Compiled]:
    """What a run compiles: encoding, readouts, scores, ridge and a network's training."""
    cycles: dict[str, int] = {}
    with Worker("experiments.benchmarks.tpu_side", ENVIRONMENT) as worker:
        for name, case, sizes, over in _cases(bench.sizes):
            found = worker.call(case, **sizes)
            cycles[name] = found["cycles"]
            ratio = found["cycles"] / cycles[over] if over else None
            devices = sizes.get("devices", 1)
            yield Compiled("tpu", name, devices, sizes, **found, over=over, ratio=ratio)


def _cases(s: Sizes) -> Iterator[tuple[str, str, dict[str, Any], str | None]]:
    """Name, function of `tpu_side`, its arguments, and the name of what it is compared with."""
    common = {"batch": s.batch, "size": s.image_size}
    for encoder, dtype, paddings in s.compiled:
        zeros = f"encode {encoder} {dtype}, zeros"
        for padding in paddings:
            name = f"encode {encoder} {dtype}, {padding}"
            sizes = {"encoder": encoder, "dtype": dtype, "padding": padding, **common}
            yield name, "encode", sizes, None if name == zeros else zeros
    encoder = s.compiled[0][0]
    of_four = {"encoder": encoder, "dtype": "bfloat16", "padding": DATA, **common, "devices": 4}
    yield f"encode {encoder} bfloat16, {DATA}, on 4", "encode", of_four, None
    of_stages = {"encoder": encoder, **common}
    for count in s.compiled_readouts:
        yield f"train {count} readouts", "train_readouts", of_stages | {"count": count}, None
    count = s.compiled_readouts[0]
    yield f"score {count} readouts", "score_readouts", of_stages | {"count": count}, None
    yield "sum products (ridge)", "sum_products", of_stages, None
    sizes = {"encoder": s.compiled_training, **common}
    yield f"train {s.compiled_training}", "train_network", sizes, None
