"""A run: the plan, one condition after the other, and what they leave in the workdir."""

import importlib
import threading
from collections.abc import Callable

from posjax import runtime
from posjax.features import Store
from posjax.results import Record, Result, to_records, write_records
from posjax.runs.comparison import Results
from posjax.runs.conditions import ROLL, load_encoder, tasks
from posjax.runs.image_sets import ImageSets, open_sets
from posjax.runs.measure import Probe, Resources, measure
from posjax.runs.plan import Plan, prepare
from posjax.runs.settings import Settings
from posjax.runs.workdir import Workdir
from posjax.runtime import progress


def run(
    settings: Settings, *, title: str, say: Callable[[str], None] = progress.say
) -> list[Result]:
    """Probes the encoders under every padding, and writes table, report and figures.

    What is already finished in the workdir is not repeated. Random weights are drawn for each seed.
    `say` gets the plan before the work starts, and the table and the path of the report after it.
    In a multi-host run only the first host writes and says anything.

    Raises:
        ValueError, FileNotFoundError: settings, images, weights or a workdir that do not fit
            together, before anything is encoded; an image that cannot be read.
        OSError: there is no room for features, or they were deleted while they were written.
        FloatingPointError: a loss is not finite.
        ConnectionError: another host has stopped.
    """
    hosts = (settings.coordinator_address, settings.num_processes, settings.process_id)
    with runtime.distributed(*hosts):
        return _run(settings, title, say if runtime.is_first() else lambda _: None)


def _run(settings: Settings, title: str, say: Callable[[str], None]) -> list[Result]:
    # matplotlib comes with it. A program's help need not wait for that, nor should a run learn at
    # its end that it is missing.
    import posjax.report  # noqa: F401

    results = carry_out(settings, say)
    if runtime.is_first():
        report = results.write_report(settings.workdir, title)
        say(f"{results}\n")
        say(f"report: {report}")
    return list(results)


def carry_out(settings: Settings, say: Callable[[str], None]) -> Results:
    """As `run`, less the report: the results lie in the workdir, with results.csv.

    Raises:
        Exceptions as `run`.
    """
    plan = prepare(settings)
    store = store_of(plan)
    store.check()
    # Devices and folders may differ between hosts.
    common = {
        **runtime.arithmetic(),
        "weight_digests": plan.weights.digests,
        "image_digests": plan.sets.digests,
        "statistics": plan.weights.statistics,
    }
    runtime.check_same(settings.identity() | common)
    workdir = Workdir(settings.workdir)
    runtime.broadcast_object(lambda: workdir.claim(settings.identity(), plan.about))
    say(str(plan))
    for note in plan.notes:
        say(f"note: {note}")
    # With PyTorch installed its import takes more than a second. Devices encode meanwhile.
    threading.Thread(target=importlib.import_module, args=("tensorboardX",), daemon=True).start()
    resources = Resources(plan.devices, store)
    results = Results(tuple(_measure_all(plan, resources, workdir)), plan.facts, tuple(plan.notes))
    if resources.waits.encoding:
        say(str(resources.waits))
    return results


def store_of(plan: Plan) -> Store:
    """Where the features of a run are kept: in memory where they fit, else in a folder."""
    settings, limit = plan.settings, plan.settings.cache_limit_gb
    # All image sets of an encoder are kept at the same time.
    in_memory = limit is None and plan.feature_bytes <= runtime.memory_bytes() // 4
    return Store(
        settings.cache_dir,
        Workdir(settings.workdir).scratch(runtime.host()),
        None if limit is None else int(limit * 1e9),
        plan.feature_bytes if in_memory else 0,
    )


def _measure_all(plan: Plan, resources: Resources, workdir: Workdir) -> list[Result]:
    settings = plan.settings
    results: list[Result] = []
    records: list[Record] = []
    kept = {side: _kept_images(plan, side) for side in plan.images}
    written = workdir.count_records() if runtime.is_first() else 0
    for condition in plan.conditions:
        encoder = load_encoder(settings, condition)
        sets = kept[settings.image_size + sum(encoder.margins)]
        sets = sets.rolled() if condition.control == ROLL else sets
        maps = tasks(settings, condition.control)
        probe = Probe(encoder, sets, settings.image_size, maps, condition.control)
        for result in measure(probe, settings, resources, workdir):
            results.append(result)
            records.extend(to_records(result))
            # Do not rewrite the tables while replaying results that they already contain.
            if runtime.is_first() and len(records) > written:
                write_records(settings.workdir, records)
    if runtime.is_first():
        write_records(settings.workdir, records)
        workdir.remove_scratch(runtime.hosts())
    return results


def _kept_images(plan: Plan, side: int) -> ImageSets:
    same = side == plan.settings.image_size
    sets = plan.sets if same else open_sets(plan.settings, side)
    return sets.kept(side, plan.images.place)
