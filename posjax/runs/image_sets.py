"""The images of a run: those that flags name, of every size that is asked for, each made once."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from posjax import encoders
from posjax.images import Kept, Rolled, Source, open_source
from posjax.runs.arms import Arm
from posjax.runs.settings import Settings

ENDLESS = ("dead_leaves", "noise")
TRAIN_SEED, TEST_SEED = 0, 1


@dataclasses.dataclass(frozen=True)
class ImageSets:
    """The training images of a run, and its sets of test images by what their flag names."""

    images: Source
    tests: Mapping[str, Source]

    def __len__(self) -> int:
        return len(self.images) + sum(map(len, self.tests.values()))

    def kept(self, size: int, folder: Path | None) -> "ImageSets":
        """The same, each image made once and kept in memory or in `folder`, see `Kept`."""
        tests = {name: Kept(source, size, folder) for name, source in self.tests.items()}
        return ImageSets(Kept(self.images, size, folder), tests)

    def rolled(self) -> "ImageSets":
        """The same images, rolled."""
        tests = {name: Rolled(source, TEST_SEED) for name, source in self.tests.items()}
        return ImageSets(Rolled(self.images, TRAIN_SEED), tests)


def open_sets(settings: Settings) -> ImageSets:
    """The images that the settings name.

    Raises:
        ValueError: they cannot be opened; names the flag.
    """
    tests = {
        spec: _open(settings, "test_images", spec, "test", TEST_SEED)
        for spec in settings.test_images
    }
    return ImageSets(open_training(settings), tests)


def open_training(settings: Settings) -> Source:
    """The training images alone; raises as `open_sets`."""
    return _open(settings, "images", settings.images, "train", TRAIN_SEED)


def _open(settings: Settings, flag: str, spec: str, role: str, seed: int) -> Source:
    limit = getattr(settings, f"num_{role}")
    if limit is None and spec in ENDLESS:
        limit = getattr(settings, f"endless_{role}")
    try:
        return open_source(
            spec,
            size=settings.image_size,
            limit=limit,
            seed=seed,
            skip_bad=settings.skip_bad_images,
            manual_dir=settings.manual_dir,
        )
    except ValueError as error:
        of = f" and --num_{role}={limit}" if limit else ""
        raise ValueError(f"--{flag}={spec}{of}: {error}") from error


def counts_by_size(settings: Settings, arms: Sequence[Arm], count: int) -> dict[int, int]:
    """How many images of each side in pixels the arms look at, where each looks at `count`.

    Those that compare on enlarged images look at others than the rest.
    """
    sides = [settings.image_size + sum(encoders.margins(a.encoder, a.padding)) for a in arms]
    return dict.fromkeys(sides, count)


def place(counts: Mapping[int, int], folder: Path) -> Path | None:
    """Where to keep so many images of each side in pixels: `folder`, or None for the memory.

    They are kept in memory where they take no more than a quarter of the machine's.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None if _bytes_of(counts) <= memory // 4 else folder


def describe(counts: Mapping[int, int], folder: Path | None) -> str:
    """How many images are made, and where they are kept: "60, 1.7 MB kept in memory"."""
    several = ", ".join(f"{count:,} of {side} pixels a side" for side, count in counts.items())
    return (
        f"{sum(counts.values()):,}{f' ({several})' if len(counts) > 1 else ''}, "
        f"{_bytes_of(counts) / 1e6:,.1f} MB kept in {folder or 'memory'}"
    )


def notes(spec: str, sets: ImageSets) -> list[str]:
    """What is worth knowing of the images before the run: `spec` names those of training."""
    found = []
    for name, source in {spec: sets.images, **sets.tests}.items():
        if source.skipped:
            listed = "; ".join(f"{path}: {reason}" for path, reason in source.skipped)
            found.append(f"{len(source.skipped)} files of {name} were left out: {listed}")
    if list(sets.tests) == ["dead_leaves"] and spec != "dead_leaves":
        found.append(
            "the test images are dead_leaves, which are generated: name others by --test_images"
        )
    trained = _files(spec, sets.images)
    for name, source in sets.tests.items():
        both = trained & _files(name, source)
        if both:
            found.append(
                f"{len(both)} of the {len(source)} test images of {name} are training images too "
                f"(such as {min(both)}): its scores are not those of unseen images"
            )
    return found


def _bytes_of(counts: Mapping[int, int]) -> int:
    return sum(3 * side**2 * count for side, count in counts.items())


def _files(spec: str, source: Source) -> set[str]:
    if spec.startswith("tfds:") or spec in ("black", "white"):
        return set(source.keys)
    folder = Path(spec).expanduser()
    return {str((folder / key).resolve()) for key in source.keys} if folder.is_dir() else set()
