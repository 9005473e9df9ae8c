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

from experiments.benchmarks.rows import SMALL, Bench, Sizes, in_columns
from experiments.benchmarks.sections import SECTIONS, sides_about

PACKAGES = ("posjax", "jax", "jaxlib", "flax", "numpy", "torch", "libtpu")
# What a part of a section may need: by the module's name, its own name and our extra.
EXTRAS = {"torch": ("PyTorch", "benchmark"), "libtpu": ("libtpu", "tpu")}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the sections that the arguments name."""
    args = _arguments(argv)
    parts = [part for section in args.sections for part in SECTIONS[section]]
    missing = {name for name in EXTRAS if importlib.util.find_spec(name) is None}
    chosen = [part for part in parts if part.needs not in missing]
    left_out = {
        name: [part.run.__name__ for part in parts if part.needs == name] for name in missing
    }
    told = [
        f"{', '.join(names)} needs {EXTRAS[name][0]}: pip install 'posjax[{EXTRAS[name][1]}]'"
        for name, names in sorted(left_out.items())
        if names
    ]
    if not chosen or (told and args.sections != [*SECTIONS]):
        sys.exit(f"error: --sections={','.join(args.sections)}: {'; '.join(told)}")
    for line in told:
        print(f"left out: {line}\n")
    sizes = SMALL if args.small else Sizes()
    sides = ["posjax", *(["torch"] if "torch" not in missing else [])]
    found = {
        "machine": _machine()
        | {side: about["device"] for side, about in sides_about(sides).items()},
        "versions": _versions(),
        "turns": args.turns,
        "sizes": dataclasses.asdict(sizes),
        "left_out": sorted(name for names in left_out.values() for name in names),
        "rows": [],
    }
    for name, value in [*found["machine"].items(), *found["versions"].items()]:
        print(f"{name + ':':<12}{value}")
    kind = None
    with tempfile.TemporaryDirectory(prefix="posjax-benchmark-") as scratch:
        bench = Bench(sizes, args.turns, args.images, args.test_images, Path(scratch))
        for row in (row for part in chosen for row in part.run(bench)):
            if type(row) is not kind:
                kind = type(row)
                print(f"\n{kind.TITLE}\n\n{in_columns(kind.HEAD, kind.WIDTHS)}")
            found["rows"].append(row.as_json())
            print(in_columns(row.cells(), row.WIDTHS), *row.remarks(), sep="\n    ", flush=True)
            # After every row: an hour's work is not lost with the last one.
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\nwritten: {args.out}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--sections",
        type=lambda text: text.split(","),
        default=[*SECTIONS],
        help=f"comma list of {', '.join(SECTIONS)} (default: all)",
    )
    parser.add_argument("--turns", type=int, default=5, help="measurements of each (default: 5)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmark.json"), help="file (default: %(default)s)"
    )
    parser.add_argument("--images", help="folder of photographs for table1 (default: generated)")
    parser.add_argument("--test_images", help="folder of others to score on (default: generated)")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it works")
    args = parser.parse_args(argv)
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"--sections: {', '.join(unknown)} is none of {', '.join(SECTIONS)}")
    if args.turns < 1:
        parser.error(f"--turns must be 1 or more, found {args.turns}")
    return args


def _machine() -> dict[str, str]:
    listed = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (listed.read_text().splitlines() if listed.exists() else ())
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": platform.platform(),
    }


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
