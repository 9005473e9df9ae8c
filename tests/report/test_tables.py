"""Tables: their numbers are those of the summaries, their columns what tells probes apart."""

import pytest
from synthetic import PHOTOS, SIZE, make_result, make_ridge_result

from posjax.layers import MODES
from posjax.probes import MAPS, position_map
from posjax.report import tables
from posjax.report.formatting import estimate, number
from posjax.report.page import Heading, Table
from posjax.results import between_weights, paired_differences, selectivities, summarise


def find(elements, caption):
    return [e for e in elements if isinstance(e, Table) and e.caption.startswith(caption)]


def texts(elements):
    return " ".join(element for element in elements if isinstance(element, str))


def test_scores_are_those_of_the_summaries():
    sets = {PHOTOS: 3, "black": 1}
    summaries = summarise([make_result(padding, MAPS, sets=sets) for padding in MODES])
    elements = tables.scores(summaries)
    headings = [e.heading for e in elements if isinstance(e, Heading)]
    assert headings == [f"Test images {name}" for name in sets]
    shown = {}
    for score in ("SPC", "MAE (best constant: H .25", "Skill"):
        for test_images, table in zip(sets, find(elements, score), strict=True):
            assert (table.head, table.labels) == (["padding", *MAPS], 1)
            for padding, *cells in table.rows:
                for name, cell in zip(MAPS, cells, strict=True):
                    shown[score[:3], test_images, padding, name] = cell
    assert len(shown) == 3 * len(summaries)
    for row in summaries:
        key, n = (row.test_images, row.probe.padding, row.map), row.n_seeds * row.n_images
        undefined = f", {row.spc_undefined} undefined" if row.spc and row.spc_undefined else ""
        assert shown["SPC", *key] == estimate(row.spc, n) + undefined
        assert shown["MAE", *key] == estimate(row.mae, n)
        low, high = (1 - row.mae[end] / row.mae_constant for end in (2, 1))
        assert shown["Ski", *key] == estimate((row.skill, low, high), n)
    assert shown["SPC", "black", "circular", "H"] == "undefined"


def test_fields_that_vary_have_a_column_and_a_single_value_no_interval():
    results = [make_result(seeds=(0,), sets={"black": 1}, **probe) for probe in ({}, {"depth": 3})]
    (table,) = find(tables.scores(summarise(results)), "MAE")
    assert table.head == ["padding", "depth", "H"]
    assert table.rows == [
        ["zeros", depth, number(result.scores["black"].mae.item())]
        for depth, result in zip("13", results, strict=True)
    ]


def test_means_are_over_all_seeds_or_over_images_alone():
    assert tables.sample(summarise([make_result()])) == "2 seeds and 4 images"
    assert tables.sample(summarise([make_ridge_result()])) == "4 images"
    two = summarise([make_result(), make_result("valid", seeds=(0,), sets={PHOTOS: 1})])
    assert tables.sample(two) == "1 to 2 seeds and 4 images"


def test_differences_say_what_they_are_less():
    results = [make_result(padding) for padding in ("zeros", "circular", "valid")]
    elements = tables.differences(paired_differences(results))
    (spc,), (mae,) = find(elements, "SPC less that of zeros"), find(elements, "MAE less that of")
    assert spc.rows[0] == ["circular", "undefined"]
    (_, row) = paired_differences(results)
    assert mae.rows[1] == ["valid", estimate(row.mae, 8)]
    assert "on the same seeds and images" in texts(elements)
    ridge = [make_ridge_result(padding) for padding in ("zeros", "valid")]
    assert "on the same images" in texts(tables.differences(paired_differences(ridge)))
    assert "one padding only" in texts(tables.differences([]))


def test_weights_and_control_maps_are_references_too():
    weights = [make_result(weights=weights) for weights in ("cifar10", "cifar10:zeros")]
    elements = tables.differences(between_weights(weights), "set of weights")
    assert find(elements, "MAE less that of cifar10")[0].rows[0][0] == "zeros"
    controls = make_result(controls=("", "shuffled_map", "smooth_map"))
    captions = [t.caption for t in find(tables.selectivity(selectivities([controls])), "")]
    assert captions == [
        "SPC less that of the shuffled map",
        "MAE less that of the shuffled map",
        "SPC less that of the smooth map",
    ]


def test_penalties_have_a_row_for_each_readout_with_its_errors():
    results = [make_ridge_result(), make_ridge_result("valid")]
    text, table = tables.penalties(results)
    assert "Tried: 1, 0.1, 0.01." in text
    assert table.head[:3] == ["padding", "map", "penalty"]
    assert [row[:4] for row in table.rows[:2]] == [
        ["zeros", "H", "1 (end of the path)", ".0200"],
        ["zeros", "V", "0.1", ".0200"],
    ]
    variance = float(position_map("H", SIZE).var())
    assert table.rows[0][4:] == [number(results[0].losses[0, 0], 4), number(variance, 4)]
    seeded = [make_ridge_result(seeds=(seed,), weights="random") for seed in (0, 1)]
    (_, table) = tables.penalties(seeded)
    assert table.head[:3] == ["padding", "seed", "map"]
    assert [row[1] for row in table.rows] == ["0", "0", "1", "1"]


def test_the_papers_stripes_are_printed_and_halved():
    summaries = summarise([make_result(maps=("H", "HS"), weights="random")])
    text, table = tables.beside_paper(summaries)
    assert table.head[:4] == ["table", "padding", "map", "images"]
    assert table.head[4:] == [
        *("SPC: paper", "ours", "MAE: paper, as printed", "paper, on [0, 1]", "ours")
    ]
    h, hs = table.rows
    assert h[:5] == ["1", "zeros", "H", f"{PHOTOS} (paper: PASCAL-S)", ".742"]
    assert h[6:8] == [".149", ".149"]
    assert hs[6:8] == [".556", ".2780 (halved)"]
    assert "range from −1 to 1" in text
    assert "ours are random" in text
    text, _ = tables.beside_paper(summarise([make_result()]))
    assert "range from −1 to 1" not in text
    assert "ours are random" not in text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (make_result(encoder="resnet20"), "no numbers for resnet20"),
        (make_result("reflect"), "no numbers for these paddings"),
        (make_ridge_result(), "no numbers for linear readouts"),
    ],
)
def test_a_sentence_says_where_the_paper_has_no_numbers(result, text):
    (sentence,) = tables.beside_paper(summarise([result]))
    assert text in sentence
