"""Results on disk: one .npz file for each probe."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from posjax.probes.controls import Task
from posjax.probes.scores import PenaltyPath, Scores
from posjax.results.result import Gallery, ProbeSpec, Result
from posjax.runtime import write_atomically


def save_result(path: Path, result: Result) -> None:
    """Writes a result to an .npz file, whole or not at all."""
    about = {
        "probe": vars(result.probe),
        "tasks": [dataclasses.astuple(task) for task in result.tasks],
        "seeds": result.seeds,
        "map_size": result.map_size,
        "test_images": list(result.scores),
    }
    tree: dict[str, Any] = {"about": json.dumps(about), "losses": result.losses}
    tree["path"] = result.path and vars(result.path)
    for i, (name, scores) in enumerate(result.scores.items()):
        tree[str(i)] = vars(scores) | vars(result.galleries[name])
    # Any: numpy's stub has it that one of the names may be `allow_pickle`.
    flat: dict[str, Any] = flatten_dict(tree, sep=".")
    arrays = {name: array for name, array in flat.items() if array is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def load_result(path: Path) -> Result:
    """Reads what `save_result` wrote.

    Raises:
        ValueError: the file is no such result; names it.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            tree = unflatten_dict(dict(file), sep=".")
        about = json.loads(str(tree["about"]))
        sets = {name: tree[str(i)] for i, name in enumerate(about["test_images"])}
        galleries = {k: Gallery(v.pop("images"), v.pop("predictions")) for k, v in sets.items()}
        return Result(
            probe=ProbeSpec(**about["probe"]),
            tasks=tuple(Task(*task) for task in about["tasks"]),
            seeds=tuple(about["seeds"]),
            map_size=about["map_size"],
            losses=tree["losses"],
            scores={name: Scores(**arrays) for name, arrays in sets.items()},
            galleries=galleries,
            path=PenaltyPath(**tree["path"]) if "path" in tree else None,
        )
    # Damage makes zipfile, zlib and numpy raise almost anything; to the caller it is one error.
    except Exception as error:
        raise ValueError(
            f"{path} is not a result of this version ({error!r}): delete it to measure it again"
        ) from error
