"""How fast is posjax, beside PyTorch and beside plain implementations of itself, and on a TPU?

Prints tables, and writes them with every single time as JSON.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from experiments.benchmarks import tables
from experiments.benchmarks.sections import MODULES, SECTIONS, rows_of
from experiments.benchmarks.sizes import SMALL, Bench, Sizes
from experiments.benchmarks.workers import Worker

PACKAGES = ("posjax", "jax", "jaxlib", "flax", "numpy", "torch", "libtpu")
# What a part of a section may need: by the module's name, the package's name and our extra.
EXTRAS = {"torch": ("PyTorch", "benchmark"), "libtpu": ("libtpu", "tpu")}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the sections that the arguments name."""
    args = _arguments(argv)
    missing = {name for name in EXTRAS if importlib.util.find_spec(name) is None}
    parts = [(section, part) for section in args.sections for part in SECTIONS[section]]
    left_out = [part for _, part in parts if part.needs in missing]
    reasons = [
        "{} needs {}: pip install 'posjax[{}]'".format(part.run.__name__, *EXTRAS[part.needs])
        for part in left_out
        if part.needs
    ]
    if len(left_out) == len(parts) or (left_out and args.sections != [*SECTIONS]):
        sys.exit(f"error: --sections={','.join(args.sections)}: {'; '.join(reasons)}")
    for reason in reasons:
        print(f"left out: {reason}\n")
    sizes = SMALL if args.small else Sizes()
    report = {
        "machine": _machine([side for side in MODULES if side not in missing]),
        "versions": _versions(),
        "turns": args.turns,
        "sizes": dataclasses.asdict(sizes),
        "left_out": sorted(part.run.__name__ for part in left_out),
        "rows": [],
    }
    for name, value in [*report["machine"].items(), *report["versions"].items()]:
        print(f"{name + ':':<12}{value}")
    table = None
    with tempfile.TemporaryDirectory(prefix="posjax-benchmark-") as scratch:
        bench = Bench(sizes, args.turns, args.images, args.test_images, Path(scratch))
        chosen = [(section, part) for section, part in parts if part not in left_out]
        for row in (row for pair in chosen for row in rows_of(*pair, bench)):
            if tables.table_of(row) != table:
                table = tables.table_of(row)
                print(tables.head_text(table))
            print(tables.row_text(row), flush=True)
            report["rows"].append(row)
            # After every row: an hour's work is not lost with the last one.
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nwritten: {args.out}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    names = f"comma list of {', '.join(SECTIONS)} (default: all)"
    add("--sections", type=lambda text: text.split(","), default=[*SECTIONS], help=names)
    add("--turns", type=int, default=5, help="measurements of each (default: 5)")
    default = Path("runs/benchmark.json")
    add("--out", type=Path, default=default, help="file (default: %(default)s)")
    add("--images", help="folder of photographs for table1 (default: generated)")
    add("--test_images", help="folder of others to score on (default: generated)")
    add("--small", action="store_true", help="tiny sizes, to see that it works")
    args = parser.parse_args(argv)
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"--sections: {', '.join(unknown)} is none of {', '.join(SECTIONS)}")
    if args.turns < 1:
        parser.error(f"--turns must be 1 or more, found {args.turns}")
    return args


def _machine(sides: Sequence[str]) -> dict[str, str]:
    """The processor and its memory, and what each side computes on."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else ()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": platform.platform(),
    }
    for side in sides:
        with Worker(MODULES[side]) as worker:
            machine[side] = worker.call("about")
    return machine


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions


if __name__ == "__main__":
    main()
