"""How fast is posjax, beside PyTorch and beside plain implementations of itself?

Prints one table of ratios, and writes it with every single time as JSON.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.benchmarks.sections import SECTIONS, SMALL, Bench, Row, Sizes, sides_about

PACKAGES = ("posjax", "jax", "jaxlib", "flax", "numpy", "torch")


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the sections that the arguments name."""
    args = _arguments(argv)
    parts = [part for section in args.sections for part in SECTIONS[section]]
    has_torch = importlib.util.find_spec("torch") is not None
    left_out = [run.__name__ for run, needs_torch in parts if needs_torch and not has_torch]
    if len(left_out) == len(parts) or (left_out and args.sections != [*SECTIONS]):
        sys.exit(
            f"error: --sections={','.join(args.sections)}: {', '.join(left_out)} needs PyTorch: "
            "pip install 'posjax[benchmark]'"
        )
    if left_out:
        print(
            f"left out, for want of PyTorch (pip install 'posjax[benchmark]'): "
            f"{', '.join(left_out)}\n"
        )
    sizes = SMALL if args.small else Sizes()
    sides = ["posjax", *(["torch"] if has_torch else [])]
    found = {
        "machine": _machine()
        | {side: about["device"] for side, about in sides_about(sides).items()},
        "versions": _versions(),
        "turns": args.turns,
        "sizes": dataclasses.asdict(sizes),
        "left_out": left_out,
        "rows": [],
    }
    for name, value in (found["machine"] | found["versions"]).items():
        print(f"{name + ':':<12}{value}")
    print(f"\n{args.turns} turns of each pair, a then b; median [least, most] of the turns\n")
    print(_line("", "a", "b", "seconds of a", "seconds of b", "a / b"))
    with tempfile.TemporaryDirectory(prefix="posjax-benchmark-") as scratch:
        bench = Bench(sizes, args.turns, args.images, args.test_images, Path(scratch))
        for run, needs_torch in parts:
            if needs_torch and not has_torch:
                continue
            for row in run(bench):
                found["rows"].append(_as_json(row))
                _say(row)
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


def _as_json(row: Row) -> dict[str, Any]:
    return dataclasses.asdict(row) | {
        "a_median": statistics.median(row.a_seconds),
        "b_median": statistics.median(row.b_seconds),
        "ratio": statistics.median(row.ratios()),
        "ratio_min": min(row.ratios()),
        "ratio_max": max(row.ratios()),
    }


def _say(row: Row) -> None:
    spreads = [_spread(values) for values in (row.a_seconds, row.b_seconds, row.ratios())]
    print(_line(row.name, row.a, row.b, *spreads), flush=True)
    if "max_difference" in row.notes:
        relative = row.notes["max_relative_difference"]
        print(
            f"    largest difference {row.notes['max_difference']:.3g}, "
            f"{relative:.3g} of the stage's largest value"
        )
    if "scaled" in row.notes:
        print(f"    {row.notes['scaled']}")


def _line(*cells: str) -> str:
    widths = (48, 10, 16, 27, 27, 0)
    return " ".join(f"{c:<{width}}" for c, width in zip(cells, widths, strict=True)).rstrip()


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} [{min(values):.4g}, {max(values):.4g}]"


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
