"""The images of a run: the training images and the sets of test images, each made once."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from posjax.images import InMemory, Kept, Rolled, Source, open_source
from posjax.runs.settings import Settings
from posjax.runtime import bytes_text, memory_bytes

ENDLESS = ("dead_leaves", "noise")
TRAIN_SEED, TEST_SEED = 0, 1


@dataclasses.dataclass(frozen=True)
class ImageSets:
    """The training images of a run, and its sets of test images by the text that names them."""

    train: Source
    tests: Mapping[str, Source]

    def __len__(self) -> int:
        return len(self.train) + sum(map(len, self.tests.values()))

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each set."""
        tests = {f"test_images={name}": s.digest() for name, s in self.tests.items()}
        return {"images": self.train.digest(), **tests}

    def kept(self, size: int, folder: Path | None) -> "ImageSets":
        """The same, each image made once and kept in memory or in `folder`, see `Kept`."""
        tests = {name: Kept(source, size, folder) for name, source in self.tests.items()}
        return ImageSets(Kept(self.train, size, folder), tests)

    def rolled(self) -> "ImageSets":
        """The same images, rolled at random."""
        tests = {name: Rolled(source, TEST_SEED) for name, source in self.tests.items()}
        return ImageSets(Rolled(self.train, TRAIN_SEED), tests)

    def notes(self, images: str) -> list[str]:
        """What a reader should know; `images` is the text that names the training images."""
        named = {images: self.train, **self.tests}
        notes = [
            f"{len(source.skipped)} files of {name} were left out: "
            + "; ".join(f"{path}: {reason}" for path, reason in source.skipped)
            for name, source in named.items()
            if source.skipped
        ]
        if list(self.tests) == ["dead_leaves"] and images != "dead_leaves":
            notes.append(
                "the test images are dead_leaves, which are generated: name others by test_images"
            )
        trained = _identities(images, self.train)
        for name, source in self.tests.items():
            both = trained & _identities(name, source)
            if both:
                notes.append(
                    f"{len(both)} of the {len(source)} test images of {name} are training images "
                    f"too (such as {min(both)}): its scores are not those of unseen images"
                )
        return notes


def open_sets(settings: Settings, size: int | None = None) -> ImageSets:
    """The images that the settings name, of `size` pixels a side, by default `image_size`.

    Raises:
        ValueError: they cannot be opened; names the argument.
    """
    size = settings.image_size if size is None else size
    tests = {str(spec): _open(settings, spec, size, train=False) for spec in settings.test_images}
    return ImageSets(open_training(settings, size), tests)


def open_training(settings: Settings, size: int) -> Source:
    """The training images alone; raises as `open_sets`."""
    return _open(settings, settings.images, size, train=True)


def _open(settings: Settings, spec: str | InMemory, size: int, *, train: bool) -> Source:
    role, argument = ("train", "images") if train else ("test", "test_images")
    limit = settings.num_train if train else settings.num_test
    if limit is None and spec in ENDLESS:
        limit = settings.default_num_train if train else settings.default_num_test
    try:
        return open_source(
            spec,
            size=size,
            limit=limit,
            seed=TRAIN_SEED if train else TEST_SEED,
            skip_bad_images=settings.skip_bad_images,
            manual_dir=settings.manual_dir,
        )
    except ValueError as error:
        limited = f" and num_{role}={limit}" if limit else ""
        raise ValueError(f"{argument}={spec}{limited}: {error}") from error


@dataclasses.dataclass(frozen=True)
class ImagePlan:
    """How many images of each side in pixels a run makes, and where it keeps them.

    Encoders that are compared on enlarged images see others than the rest.
    """

    counts: Mapping[int, int]
    folder: Path

    @property
    def place(self) -> Path | None:
        """The folder, or None where they take no more than a quarter of the memory."""
        return None if self._bytes <= memory_bytes() // 4 else self.folder

    def __str__(self) -> str:
        several = ", ".join(f"{n:,} of {side} pixels a side" for side, n in self.counts.items())
        return (
            f"{sum(self.counts.values()):,}{f' ({several})' if len(self.counts) > 1 else ''}, "
            f"{bytes_text(self._bytes)} kept in {self.place or 'memory'}"
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.counts)

    @property
    def _bytes(self) -> int:
        return sum(3 * side**2 * count for side, count in self.counts.items())


def _identities(name: str, source: Source) -> set[str]:
    if name.startswith("tfds:") or name in ("black", "white"):
        return set(source.keys)
    folder = Path(name).expanduser()
    return {str((folder / key).resolve()) for key in source.keys} if folder.is_dir() else set()
