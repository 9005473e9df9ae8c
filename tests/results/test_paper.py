"""The paper's numbers stand beside ours of the same encoder, readout, map and kind of images."""

import pytest
from synthetic import make_result

from posjax.results import paper, summarise


def counterparts(test_images, name, **probe):
    result = make_result(maps=(name,), sets={test_images: 2}, **probe)
    return paper.counterparts(summarise([result]))


@pytest.mark.parametrize(
    ("probe", "test_images", "name", "expected"),
    [
        ({}, "/photos", "H", ("1", "PASCAL-S", 0.742, 0.149, 0.149)),
        ({}, "tfds:x", "H", ("1", "PASCAL-S", 0.742, 0.149, 0.149)),
        ({"encoder": "resnet152"}, "noise", "VS", ("1", "noise", 0.523, 0.545, 0.2725)),
        ({"depth": 3}, "/photos", "HS", ("2a", "PASCAL-S", 0.491, 0.54, 0.27)),
        ({"kernel_size": 7}, "/photos", "G", ("2b", "PASCAL-S", 0.816, 0.111, 0.111)),
        ({"stages": "f5"}, "/photos", "G", ("3", "PASCAL-S", 0.693, 0.135, 0.135)),
        ({"padding": "valid"}, "/photos", "H", ("4", "PASCAL-S", 0.381, 0.223, 0.223)),
    ],
)
def test_the_paper_has_a_number_for_the_same_probe(probe, test_images, name, expected):
    (row,) = counterparts(test_images, name, **probe)
    assert (row.table, row.test_images, row.spc, row.mae, row.rescaled_mae) == expected


@pytest.mark.parametrize(
    ("test_images", "probe"),
    [
        ("black", {"padding": "valid"}),
        ("dead_leaves", {}),
        ("/photos", {"padding": "reflect"}),
        ("/photos", {"padding": "valid", "encoder": "resnet152"}),
        ("/photos", {"stages": "f5", "encoder": "resnet152"}),
        ("/photos", {"stages": "f1+f3"}),
        ("/photos", {"depth": 4}),
        ("/photos", {"depth": 3, "kernel_size": 7}),
        ("/photos", {"readout_padding": 1}),
        ("/photos", {"encoder": "vgg16_bn"}),
        ("/photos", {"solver": "ridge"}),
        ("/photos", {"control": "roll"}),
    ],
)
def test_the_paper_has_no_number_for_another_probe(test_images, probe):
    assert counterparts(test_images, "H", **probe) == []
