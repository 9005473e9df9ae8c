"""`compare` is a run whose results come as tables, figures and a report."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

import posjax
from posjax.encoders import frozen, wrap
from posjax.runs import Settings, run

TINY = {
    "maps": ("H",),
    "image_size": 32,
    "num_train": 6,
    "num_test": 3,
    "batch_size": 4,
    "epochs": 1,
    "devices": 1,
}


@pytest.fixture(scope="module")
def results():
    return posjax.compare(
        "vgg8_bn_quarter",
        paddings=["zeros", "reflect"],
        controls=["pixels"],
        seeds=[0, 1],
        **TINY,
    )


def test_it_gives_the_scores_of_a_run_with_the_same_settings(results, tmp_path):
    settings = Settings(
        encoder=("vgg8_bn_quarter",),
        paddings=("zeros", "reflect"),
        controls=("pixels",),
        seeds=(0, 1),
        workdir=tmp_path,
        **TINY,
    )
    for ours, theirs in zip(results, run(settings, title="x"), strict=True):
        assert ours.probe == theirs.probe
        for name, scores in ours.scores.items():
            np.testing.assert_array_equal(scores.spc, theirs.scores[name].spc)


def test_the_frame_has_a_row_for_each_score(results):
    frame = results.to_frame()
    assert len(frame) == 3 * 3  # two paddings and the pixels; SPC, MAE and skill
    zeros = frame[(frame.padding == "zeros") & (frame.score == "spc")].iloc[0]
    spc = results[0].scores["dead_leaves"].spc  # seed 0
    spc = np.concatenate([spc, results[1].scores["dead_leaves"].spc])
    assert zeros["mean"] == pytest.approx(spc.mean())
    assert zeros.low <= zeros["mean"] <= zeros.high
    assert (zeros.n, zeros.undefined) == (spc.size, 0)


def test_differences_are_those_of_the_same_seeds_and_images(results):
    (row,) = results.differences().query("score == 'spc'").to_dict("records")
    means = results.to_frame().query("score == 'spc'").set_index("padding")["mean"]
    assert (row["padding"], row["reference"]) == ("reflect", "zeros")
    assert row["mean"] == pytest.approx(means["reflect"] - means["zeros"])


def test_a_notebook_shows_a_table_and_figures(results):
    assert "<caption>SPC</caption>" in results._repr_html_()
    assert [panel.get_title() for panel in results.plot().axes] == ["H"]
    titles = [panel.get_title() for panel in results.plot_maps().axes]
    assert titles == ["target", "zeros", "reflect"]
    assert [panel.get_title() for panel in results[:1].plot_maps().axes] == ["target", "zeros"]
    with pytest.raises(ValueError, match="test_images: 'x' is not there; there are dead_leaves"):
        results.plot_maps("x")


def test_saving_leaves_the_whole_report(results, tmp_path):
    report = results.save(tmp_path / "saved")
    assert "<h1>Position by padding mode</h1>" in report.read_text("utf-8")
    lines = (tmp_path / "saved" / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert (tmp_path / "saved" / "controls.csv").exists()


def test_arrays_and_a_network_of_nnx_are_compared():
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    graph, state = nnx.split(nnx.Conv(3, 3, (3, 3), rngs=nnx.Rngs(0)))

    def fn(state, x):
        return nnx.merge(graph, state)(x)

    own = wrap(fn, state, name="mine", image_size=32)
    tiny = {name: value for name, value in TINY.items() if not name.startswith("num")}
    found = posjax.compare(own, images, {"others": images[:2]}, controls=[], seeds=[0, 1], **tiny)
    assert [r.probe.padding for r in found] == ["zeros", "reflect", "replicate", "circular"]
    assert {r.probe.encoder for r in found} == {"mine"}
    assert {*found[0].scores} == {"others"}


def test_an_encoder_brings_its_weights_and_seed():
    encoder = frozen("vgg8_bn_quarter", seed=5, normalize="imagenet")
    found = posjax.compare(encoder, paddings=["zeros"], controls=[], **TINY)
    assert [result.seeds for result in found] == [(5,)]
    assert "imagenet" in found.facts["inputs"]


@pytest.mark.parametrize("own", [False, True], ids=["by name", "own"])
def test_an_encoder_whose_variables_were_replaced_is_refused(own):
    encoder = frozen("vgg8_bn_quarter")
    if own:
        encoder = wrap(encoder.network.apply, encoder.variables, name="mine", image_size=32)
    changed = dataclasses.replace(encoder, variables=jax.tree.map(np.zeros_like, encoder.variables))
    with pytest.raises(ValueError, match="encoder: its weights are not those of"):
        posjax.compare(changed, paddings=["zeros"], controls=[], **TINY)


@pytest.mark.parametrize(
    ("arguments", "kind", "problem"),
    [
        ({"encoder": "vgg17"}, ValueError, "'vgg17' is unknown"),
        ({"nonsense": 1}, TypeError, "nonsense is no setting"),
        ({"images": np.zeros((2, 8, 8))}, ValueError, r"training images\[0\]: expected an image"),
        ({"maps": ["X"]}, ValueError, "maps: 'X' is unknown"),
        ({"maps": "XY"}, ValueError, "maps: 'XY' is unknown"),
        ({"paddings": "zero"}, ValueError, "paddings: padding mode 'zero' is unknown"),
        ({"paddings": []}, ValueError, "paddings needs one or more"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(arguments, kind, problem):
    with pytest.raises(kind, match=problem):
        posjax.compare(**({"encoder": "vgg8_bn_quarter"} | arguments))
