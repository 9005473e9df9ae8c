"""Accuracies of all encoders that a folder of trainings holds, with their intervals."""

from pathlib import Path

from posjax.encoders import read_checkpoint
from posjax.runtime import write_rows
from posjax.training.task import WEIGHTS

COLUMNS = ("encoder", "padding", "seed", "correct", "images", "accuracy", "low", "high")


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a proportion over images (Wilson 1927)."""
    # Its import takes a while. A program's help need not wait for that.
    from scipy.stats import binomtest

    interval = binomtest(correct, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def write_table(workdir: Path) -> str:
    """Writes accuracy.csv of the finished trainings in a workdir; the same as text."""
    rows = sorted(filter(None, (_row(path) for path in workdir.glob(f"*/{WEIGHTS}"))))
    cells = ((*row[:5], *(f"{value:.4f}" for value in row[5:])) for row in rows)
    write_rows(workdir / "accuracy.csv", COLUMNS, cells)
    lines = [f"{'accuracy':28}{'test images':>12}"]
    for encoder, padding, seed, _, count, accuracy, low, high in rows:
        name = f"{encoder} {padding} seed {seed}"
        lines.append(f"{name:28}{count:>12}  {accuracy:.1%} [{low:.1%}, {high:.1%}]")
    return "\n".join(lines)


def _row(path: Path) -> tuple | None:
    about = read_checkpoint(path).metadata
    if "recipe" not in about:
        return None  # from elsewhere
    correct, count, seed = (int(about[key]) for key in ("test_correct", "test_count", "seed"))
    low, high = wilson(correct, count)
    return about["encoder"], about["padding"], seed, correct, count, correct / count, low, high
