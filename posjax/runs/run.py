"""A run: the plan, one probe after the other, and what they leave in the workdir."""

import dataclasses
import importlib
import threading
from collections.abc import Callable, Mapping, Sequence

import jax

from posjax import encoders
from posjax.probes import Readout
from posjax.runs import closed_form, image_sets, parallel
from posjax.runs.arms import ROLL, Arm, arms, frozen, recipe_of, tasks
from posjax.runs.frozen import stage_shapes, weights_path
from posjax.runs.groups import FEATURE_SIZE, stage_names
from posjax.runs.image_sets import ImageSets
from posjax.runs.locks import make_writable
from posjax.runs.plan import Shapes, gram_columns, plan
from posjax.runs.probe import measure
from posjax.runs.records import Record, Result, to_records
from posjax.runs.rounding import matmul_precision
from posjax.runs.settings import RANDOM, Settings
from posjax.runs.waits import Waits
from posjax.runs.workdir import Workdir, describe_devices


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
    workdir = Workdir(settings.workdir)
    flags = {f"--{name}": value for name, value in settings.science().items()}
    parallel.check_same(flags | {"--precision": matmul_precision()} | prepared.about)
    if settings.cache_dir:
        make_writable(settings.cache_dir)
    parallel.from_first(lambda: claim(workdir, settings, prepared))
    notes = [*image_sets.notes(settings.images, prepared.sets), *prepared.notes]
    chosen = arms(settings)
    statistics = prepared.about["normalize"]
    say(plan(settings, chosen, prepared.shapes, prepared.sets, statistics, prepared.devices))
    for note in notes:
        say(f"note: {note}")

    # With PyTorch installed it imports that too, for more than a second: devices encode meanwhile.
    threading.Thread(target=importlib.import_module, args=("tensorboardX",), daemon=True).start()
    waits = Waits()
    results = _probe_all(settings, chosen, prepared, workdir, waits)
    if parallel.is_first():
        report = write_report(workdir.path, settings, results, title=title, notes=notes)
        say(text_table(results))
        if waits.encoding:
            say(str(waits))
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
    sets: ImageSets
    about: dict[str, object]
    notes: Sequence[str]


def prepare(settings: Settings) -> Prepared:
    """Opens images, reads weights once, and checks that all of it fits together.

    Raises:
        ValueError, FileNotFoundError: flags, images or weights that do not fit together.
    """
    devices = parallel.local_devices(settings.devices)
    shapes = _check_shapes(settings)
    sets = image_sets.open_sets(settings)
    if settings.solver == "ridge":
        closed_form.check_images(len(sets.images))
        closed_form.check_room(gram_columns(settings, shapes), devices)
    weights = _check_weights(settings)
    about = {
        "weight_digests": {name: loaded.digest for name, loaded in weights.items()},
        "image_digests": {
            "images": sets.images.digest(),
            **{name: source.digest() for name, source in sets.tests.items()},
        },
        "normalize": _statistics(settings, weights),
        "devices": describe_devices(devices, parallel.hosts()),
    }
    notes = [
        f"{name} does not say how its images were normalised: ImageNet's statistics are taken"
        for name, loaded in weights.items()
        if settings.normalize == "encoder" and loaded.normalize is None
    ]
    return Prepared(devices, shapes, sets, about, notes)


def _probe_all(
    settings: Settings,
    chosen: Sequence[Arm],
    prepared: Prepared,
    workdir: Workdir,
    waits: Waits,
) -> list[Result]:
    results: list[Result] = []
    records: list[Record] = []
    kept = _kept(settings, chosen, prepared.sets)
    written = parallel.from_first(workdir.count_records)
    for arm in chosen:
        encoder = frozen(settings, arm)
        sets = kept[settings.image_size + sum(encoder.margins)]
        sets = sets.rolled() if arm.control == ROLL else sets
        for result in measure(
            encoder,
            sets.images,
            sets.tests,
            recipe_of(settings, arm.encoder, prepared.shapes[arm.encoder, arm.padding]),
            tasks=tasks(settings, arm.control),
            control=arm.control,
            cache_dir=settings.cache_dir,
            cache_limit_gb=settings.cache_limit_gb,
            devices=prepared.devices,
            workdir=workdir,
            waits=waits,
        ):
            results.append(result)
            records.extend(to_records(result))
            # While finished results are read again, the files that tell them stay as they are.
            if parallel.is_first() and len(records) > written:
                workdir.write_records(records)
    if parallel.is_first():
        workdir.write_records(records)
    return results


def _kept(settings: Settings, chosen: Sequence[Arm], sets: ImageSets) -> dict[int, ImageSets]:
    """The images of every size, by their side in pixels, each made once."""
    counts = image_sets.counts_by_size(settings, chosen, len(sets))
    folder = image_sets.place(counts, settings.cache_dir or settings.workdir)
    kept = {}
    for side in counts:
        sized = dataclasses.replace(settings, image_size=side)
        opened = sets if side == settings.image_size else image_sets.open_sets(sized)
        kept[side] = opened.kept(side, folder)
    return kept


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
