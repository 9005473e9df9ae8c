"""The answer of a run in sentences, which say no more than the intervals bear out."""

import dataclasses
from collections.abc import Mapping, Sequence

from posjax.report.formatting import count, distinct, estimate, grouped, label, varying, words
from posjax.results import Interval, Summary

MOST = 3  # sentences about results


def answer(summaries: Sequence[Summary]) -> list[str]:
    """Sentences about each encoder and readout on the first set of test images, and controls.

    Args:
        summaries: of results and controls; of padding modes, those that are to be compared.
    """
    if not summaries:
        return []
    rows = [row for row in summaries if row.test_images == summaries[0].test_images]
    measured = [row for row in rows if not row.probe.control]
    groups = grouped(measured, lambda row: dataclasses.replace(row.probe, padding=""))
    fields = [field for field in varying(groups) if field != "padding"]
    sentences = []
    for probe, group in list(groups.items())[:MOST]:
        about = label(probe, fields) if len(groups) > 1 else ""
        maps = grouped(group, lambda row: row.map)
        name = next(iter(maps))
        text = " ".join([_compared(name, maps[name]), *_other_maps(maps)])
        sentences.append(f"{about}: {text}" if about else text)
    if len(groups) > MOST:
        sentences.append(f"So far {MOST} of {len(groups)} encoders and readouts; see the tables.")
    first = measured[0].map if measured else ""
    controls = [row for row in rows if row.probe.control and row.spc and row.map == first]
    return [*sentences, *_controls(first, controls)]


def _compared(name: str, rows: Sequence[Summary]) -> str:
    """The highest SPC among padding modes, and what its interval sets it apart from."""
    defined = sorted((row for row in rows if row.spc), key=_mean, reverse=True)
    if not defined:
        return f"The SPC on {name} is undefined: all predictions are constant."
    best = defined[0]
    score = f"SPC {_text(best)}"
    mode = best.probe.padding
    where = "" if mode == "none" else f"under {mode} "
    if _interval(best)[1] <= 0:
        return f"Readouts do not find {name}: the highest is {score} {where}".strip() + "."
    equal = [row for row in defined[1:] if _interval(row)[2] >= _interval(best)[1]]
    lower = [row for row in defined[1:] if row not in equal]
    text = f"Readouts find {name} {where}with {score}"
    if equal:
        listed = ", ".join(f"{row.probe.padding} {_text(row)}" for row in equal)
        text += f"; the intervals of {listed} overlap with it"
    if lower:
        others = "every other mode" if not equal else count(len(lower), "other mode")
        text += (
            f". Under {others} SPC is lower: at most {_text(lower[0])} ({lower[0].probe.padding})"
        )
    return text + "."


def _other_maps(maps: Mapping[str, Sequence[Summary]]) -> list[str]:
    """Maps but the first on which one mode's interval lies above those of all others."""
    texts = []
    for name, rows in [*maps.items()][1:]:
        ordered = sorted((row for row in rows if row.spc), key=_mean, reverse=True)
        if len(ordered) < 2 or _interval(ordered[0])[1] <= 0:
            continue
        best, *others = ordered
        if all(_interval(row)[2] < _interval(best)[1] for row in others):
            texts.append(f"{name} under {best.probe.padding} with {_text(best)}")
    return [f"So they do {' and '.join(texts)}, above every other mode."] if texts else []


def _controls(name: str, rows: Sequence[Summary]) -> list[str]:
    """The highest of each kind of control."""
    if not rows:
        return []
    kinds = distinct(row.probe.control for row in rows)
    highest = [max((r for r in rows if r.probe.control == kind), key=_mean) for kind in kinds]
    listed = "; ".join(f"{words(row.probe.control)} {_text(row)}" for row in highest)
    return [f"Controls on {name}, the highest of each kind: {listed}."]


def _interval(row: Summary) -> Interval:
    assert row.spc is not None  # undefined ones are left out
    return row.spc


def _mean(row: Summary) -> float:
    return _interval(row)[0]


def _text(row: Summary) -> str:
    return estimate(row.spc, row.n_seeds * row.n_images, 2)
