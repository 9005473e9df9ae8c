"""A run: the plan, one probe after the other, and what they leave in the workdir."""

import dataclasses
import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from posjax import encoders
from posjax.images import Rolled, Source, open_source
from posjax.probes import Readout
from posjax.runs import closed_form, parallel
from posjax.runs.arms import ROLL, Arm, arms, frozen, recipe_of, tasks
from posjax.runs.frozen import stage_shapes, weights_path
from posjax.runs.groups import FEATURE_SIZE, stage_names
from posjax.runs.locks import make_writable
from posjax.runs.plan import Shapes, gram_columns, plan
from posjax.runs.probe import measure
from posjax.runs.records import Record, Result, to_records
from posjax.runs.rounding import matmul_precision
from posjax.runs.settings import RANDOM, Settings
from posjax.runs.workdir import Workdir, describe_devices

ENDLESS = ("dead_leaves", "noise")
TRAIN_SEED, TEST_SEED = 0, 1


def run(settings: Settings, *, title: str, say: Callable[[str], None] = print) -> list[Result]:
    """Probes the encoder under every padding mode, and writes table, report and figures.

    What is already finished in the workdir is not repeated. Random weights are drawn anew for
    each seed. `say` is given the plan before the work starts, and the table and the path of the
    report after it. Of several hosts only the first writes and says anything.

    Raises:
        ValueError, FileNotFoundError: flags, images, weights or a workdir that do not fit
            together, before anything is encoded; an image that cannot be read.
        OSError: there is no room for features, or they were deleted while they were written.
        FloatingPointError: a loss is not finite.
        ConnectionError: another host has stopped.
    """
    with parallel.joined(settings.coordinator_address, settings.num_processes, settings.process_id):
        return _run(settings, title, say if parallel.is_first() else lambda _: None)


def _run(settings: Settings, title: str, say: Callable[[str], None]) -> list[Result]:
    # matplotlib comes with it: --help need not wait for that, nor should a run learn at its end
    # that it is missing.
    from posjax.runs.report import write_report
    from posjax.runs.terminal import text_table

    prepared = prepare(settings)
    images, tests = prepared.images, prepared.tests
    workdir = Workdir(settings.workdir)
    flags = {f"--{name}": value for name, value in settings.science().items()}
    parallel.check_same(flags | {"--precision": matmul_precision()} | prepared.about)
    if settings.cache_dir:
        make_writable(settings.cache_dir)
    parallel.from_first(lambda: claim(workdir, settings, prepared))
    notes = [*_notes(settings.images, images, tests), *prepared.notes]
    chosen = arms(settings)
    statistics = prepared.about["normalize"]
    say(plan(settings, chosen, prepared.shapes, images, tests, statistics, prepared.devices))
    for note in notes:
        say(f"note: {note}")

    # With PyTorch installed it imports that too, for more than a second: devices encode meanwhile.
    threading.Thread(target=importlib.import_module, args=("tensorboardX",), daemon=True).start()
    results = _probe_all(settings, chosen, prepared, workdir)
    if parallel.is_first():
        report = write_report(workdir.path, settings, results, title=title, notes=notes)
        say(text_table(results))
        say(f"report: {report}")
    return results


def claim(workdir: Workdir, settings: Settings, prepared: "Prepared") -> None:
    """Makes the workdir this run's, see `Workdir.claim`."""
    cache = {"cache_dir": settings.cache_dir and str(settings.cache_dir)}
    workdir.claim(settings.science(), cache | prepared.about)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run has looked at before it starts: nothing in it can fail later for its flags.

    `about` is what a workdir keeps of it: digests of weights and images, statistics, devices.
    """

    devices: Sequence[jax.Device]
    shapes: Shapes
    images: Source
    tests: Mapping[str, Source]
    about: dict[str, object]
    notes: Sequence[str]


def prepare(settings: Settings) -> Prepared:
    """Opens images, reads weights once, and checks that all of it fits together.

    Raises:
        ValueError, FileNotFoundError: flags, images or weights that do not fit together.
    """
    devices = parallel.local_devices(settings.devices)
    shapes = _check_shapes(settings)
    images, tests = open_both(settings)
    if settings.solver == "ridge":
        closed_form.check_images(len(images))
        closed_form.check_room(gram_columns(settings, shapes), devices)
    weights = _check_weights(settings)
    about = {
        "weight_digests": {name: loaded.digest for name, loaded in weights.items()},
        "image_digests": {
            "images": images.digest(),
            **{name: source.digest() for name, source in tests.items()},
        },
        "normalize": _statistics(settings, weights),
        "devices": describe_devices(devices, parallel.hosts()),
    }
    notes = [
        f"{name} does not say how its images were normalised: ImageNet's statistics are taken"
        for name, loaded in weights.items()
        if settings.normalize == "encoder" and loaded.normalize is None
    ]
    return Prepared(devices, shapes, images, tests, about, notes)


def _probe_all(
    settings: Settings, chosen: Sequence[Arm], prepared: Prepared, workdir: Workdir
) -> list[Result]:
    results: list[Result] = []
    records: list[Record] = []
    sources = {settings.image_size: (prepared.images, prepared.tests)}
    written = parallel.from_first(workdir.count_records)
    for arm in chosen:
        encoder = frozen(settings, arm)
        side = settings.image_size + sum(encoder.margins)
        if side not in sources:
            sources[side] = open_both(dataclasses.replace(settings, image_size=side))
        train, test = sources[side] if arm.control != ROLL else _rolled(*sources[side])
        for result in measure(
            encoder,
            train,
            test,
            recipe_of(settings, arm.encoder, prepared.shapes[arm.encoder, arm.padding]),
            tasks=tasks(settings, arm.control),
            control=arm.control,
            cache_dir=settings.cache_dir,
            cache_limit_gb=settings.cache_limit_gb,
            devices=prepared.devices,
            workdir=workdir,
        ):
            results.append(result)
            records.extend(to_records(result))
            # While finished results are read again, the files that tell them stay as they are.
            if parallel.is_first() and len(records) > written:
                workdir.write_records(records)
    if parallel.is_first():
        workdir.write_records(records)
    return results


def _rolled(images: Source, tests: Mapping[str, Source]) -> tuple[Source, dict[str, Source]]:
    test = {name: Rolled(source, TEST_SEED) for name, source in tests.items()}
    return Rolled(images, TRAIN_SEED), test


def _check_shapes(settings: Settings) -> Shapes:
    """The stages' shapes of every encoder and padding; refuses what would fail after hours."""
    shapes = {
        (arm.encoder, arm.padding): stage_shapes(
            arm.encoder, arm.padding, settings.image_size, settings.pool_padding
        )
        for arm in arms(settings)
    }
    for (encoder, _), stages in shapes.items():
        texts = recipe_of(settings, encoder, stages).stages
        chosen = [stage_names(text, tuple(stages)) for text in texts]
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"--stages names the same stages twice: {', '.join(settings.stages)}")
    map_size = (settings.image_size, settings.image_size)
    for _, *readout in settings.shapes():
        Readout(*readout, feature_size=FEATURE_SIZE, map_size=map_size)
    return shapes


def _check_weights(settings: Settings) -> dict[str, encoders.Loaded]:
    """Reads every encoder's weights once, before work starts; what is in them but the weights.

    By their path, with the encoder where several read the same.
    """
    files = {
        (weights_path(arm.weights, arm.encoder, arm.padding), arm.encoder): None
        for arm in arms(settings)
        if arm.encoder != encoders.PIXELS and arm.weights != RANDOM
    }
    paths = [path for path, _ in files]
    return {
        path if paths.count(path) == 1 else f"{encoder}: {path}": dataclasses.replace(
            encoders.load_with_info(encoder, path), variables={}
        )
        for path, encoder in files
    }


def _statistics(settings: Settings, weights: Mapping[str, encoders.Loaded]) -> list[str]:
    """The statistics that images are normalised by, of each file of weights if they differ."""
    if settings.normalize != "encoder":
        return [settings.normalize]
    return sorted({w.normalize or "imagenet" for w in weights.values()}) or ["none"]


def open_both(settings: Settings) -> tuple[Source, dict[str, Source]]:
    """The training images, and the test images by their flag's value; as `open_images` raises."""
    images = open_images(settings, "images", settings.images, "train", TRAIN_SEED)
    tests = {
        spec: open_images(settings, "test_images", spec, "test", TEST_SEED)
        for spec in settings.test_images
    }
    return images, tests


def open_images(settings: Settings, flag: str, spec: str, role: str, seed: int) -> Source:
    """The images that a flag names; `role` is train or test.

    Raises:
        ValueError: they cannot be opened; names the flag.
    """
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


def _notes(spec: str, images: Source, tests: Mapping[str, Source]) -> list[str]:
    notes = []
    for name, source in {spec: images, **tests}.items():
        if source.skipped:
            listed = "; ".join(f"{path}: {reason}" for path, reason in source.skipped)
            notes.append(f"{len(source.skipped)} files of {name} were left out: {listed}")
    if list(tests) == ["dead_leaves"] and spec != "dead_leaves":
        notes.append(
            "the test images are dead_leaves, which are generated: name others by --test_images"
        )
    trained = _files(spec, images)
    for name, source in tests.items():
        both = trained & _files(name, source)
        if both:
            notes.append(
                f"{len(both)} of the {len(source)} test images of {name} are training images too "
                f"(such as {min(both)}): its scores are not those of unseen images"
            )
    return notes


def _files(spec: str, source: Source) -> set[str]:
    if spec.startswith("tfds:") or spec in ("black", "white"):
        return set(source.keys)
    folder = Path(spec).expanduser()
    return {str((folder / key).resolve()) for key in source.keys} if folder.is_dir() else set()
