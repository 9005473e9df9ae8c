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
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import posjax
from experiments.benchmarks.sections import SECTIONS, SIDES
from experiments.benchmarks.sizes import SMALL, Sizes
from experiments.benchmarks.timing import Case, Row, call, new_process

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "libtpu")
# The name and our extra of what a section may need.
EXTRAS = {"torch": ("PyTorch", "benchmark"), "libtpu": ("libtpu", "tpu")}
PAIRS = "a then b in every turn; median [least, most] of the turns"
PROGRAMS = (
    "what the TPU's compiler expects of each program on one device of a v5e; of peak: its "
    "products' part of 197e12 in bfloat16"
)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the sections that the arguments name."""
    args = _arguments(argv)
    names = [name for name in args.sections or SECTIONS if _can_run(name, bool(args.sections))]
    sizes = dataclasses.replace(
        SMALL if args.small else Sizes(),
        **{"turns": args.turns, "images": args.images, "test_images": args.test_images},
    )
    report = {"machine": _machine(), "sizes": dataclasses.asdict(sizes), "rows": []}
    for name, value in report["machine"].items():
        print(f"{name + ':':<12}{value}")
    for name in names:
        section, _ = SECTIONS[name]
        print(f"\n{name}: {PROGRAMS if name == 'tpu' else PAIRS}\n")
        for row in section(sizes):
            print(program_text(row) if name == "tpu" else pair_text(row), flush=True)
            report["rows"].append({"section": name, **row})
            # After every row: an hour's work is not lost with the last one.
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nwritten: {args.out}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    names = f"comma list of {', '.join(SECTIONS)} (default: all that can run here)"
    add("--sections", type=lambda text: text.split(","), help=names)
    add("--turns", type=int, default=5, help="measurements of each (default: 5)")
    default = Path("runs/benchmark.json")
    add("--out", type=Path, default=default, help="file (default: %(default)s)")
    add("--images", help="folder of photographs for table1 (default: generated)")
    add("--test_images", help="folder of others to score on (default: generated)")
    add("--small", action="store_true", help="tiny sizes, to see that it works")
    args = parser.parse_args(argv)
    unknown = [name for name in args.sections or () if name not in SECTIONS]
    if unknown:
        parser.error(f"--sections: {', '.join(unknown)} is none of {', '.join(SECTIONS)}")
    if args.turns < 1:
        parser.error(f"--turns must be 1 or more, found {args.turns}")
    return args


def _can_run(section: str, chosen: bool) -> bool:
    """Whether what a section needs is installed; a chosen one that lacks it ends the program."""
    _, needed = SECTIONS[section]
    if needed is None or importlib.util.find_spec(needed):
        return True
    package, extra = EXTRAS[needed]
    reason = f"{section} needs {package}: pip install 'posjax[{extra}]'"
    if chosen:
        sys.exit(f"error: --sections: {reason}")
    print(f"left out: {reason}")
    return False


def _machine() -> dict[str, str]:
    """The processor, its memory, what each side computes on, and the versions."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else ()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    installed = [name for name in PACKAGES if importlib.util.find_spec(name)]
    for side in filter(importlib.util.find_spec, SIDES):
        with new_process() as process:
            about = Case(side, SIDES[side], "about", {})
            machine[f"on {side}"] = process.submit(call, about).result()
    versions = {name: metadata.version(name) for name in installed}
    return machine | {"posjax": posjax.__version__} | versions


def pair_text(row: Row) -> str:
    """A line for two sides, with a remark below it."""
    a, b = (_spread(row[f"{side}_median"], row[f"{side}_seconds"]) for side in "ab")
    ratio = _spread(row["ratio"], (row["ratio_min"], row["ratio_max"]))
    text = f"{row['name']:<48} {row['a']} {a} s, {row['b']} {b} s, ratio {ratio}"
    return f"{text}\n    {row['remark']}" if "remark" in row else text


def _spread(median: float, values: Sequence[float]) -> str:
    return f"{median:.4g} [{min(values):.4g}, {max(values):.4g}]"


def program_text(row: Row) -> str:
    """A line for a program of the TPU, with remarks below it."""
    text = (
        f"{row['name']:<40} {row['cycles'] / 1e6:.2f} M cycles, {row['milliseconds']:.2f} ms, "
        f"{row['part_of_peak']:.3f} of peak, {row['hbm_bytes'] / 1e9:.2f} GB, "
        f"{row['compile_seconds']:.1f} s to compile"
    )
    if row["ratio"] is not None:
        text += f", {row['ratio']:.2f} over zeros"
    for name, count in row["missing"].items():
        text += f"\n    without an estimate, and not counted: {count} x {name}"
    if row["endless"]:
        text += f"\n    loops of unknown length, counted once: {row['endless']}"
    return text


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore
    main()
