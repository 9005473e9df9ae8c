"""Settings: what cannot run is refused by the name of its flag."""

import dataclasses
import re
from pathlib import Path

import pytest

from posjax.runs import Recipe, Settings

GOOD = {
    "encoder": ("vgg16",),
    "weights": ("random",),
    "paddings": ("zeros", "reflect"),
    "images": "dead_leaves",
    "test_images": ("noise", "black"),
    "workdir": Path("somewhere"),
}

BAD_RECIPES = [
    ("stages", ()),
    ("stages", ("f1", "f1")),
    ("maps", ("H", "X")),
    ("maps", ()),
    ("maps", ("H", "H")),
    ("depths", ()),
    ("depths", (0,)),
    ("depths", (1, 1)),
    ("kernel_sizes", ()),
    ("kernel_sizes", (3, 0)),
    ("kernel_sizes", (3, 3)),
    ("readout_paddings", ()),
    ("readout_paddings", (-1,)),
    ("readout_paddings", (0, 0)),
    ("seeds", ()),
    ("seeds", (-1,)),
    ("seeds", (2, 2)),
    ("solver", "adam"),
    ("batch_size", 0),
    ("epochs", 0),
    ("learning_rate", 0.0),
    ("learning_rate", -0.1),
    ("learning_rate", float("nan")),
    ("learning_rate", float("inf")),
    ("feature_dtype", "float16"),
]
BAD_SETTINGS = [
    ("encoder", ("vgg17",)),
    ("paddings", ()),
    ("paddings", ("zeros", "zeros")),
    ("paddings", ("zeros", "same")),
    ("paddings", ("zeros+features.1=reflect",)),
    ("paddings", ("zeros+each=same",)),
    ("paddings", ("zeros@small",)),
    ("pool_padding", "same"),
    ("normalize", "mnist"),
    ("dtype", "float16"),
    ("test_images", ()),
    ("test_images", ("noise", "noise")),
    ("num_train", 0),
    ("num_test", -1),
    ("endless_train", 0),
    ("endless_test", 0),
    ("image_size", 1),
    ("cache_limit_gb", -0.1),
    ("cache_limit_gb", float("nan")),
    ("cache_limit_gb", float("inf")),
    ("devices", -1),
]


@pytest.mark.parametrize(("flag", "value"), BAD_RECIPES, ids=str)
def test_a_recipe_refuses_what_cannot_run(flag, value):
    with pytest.raises(ValueError, match=rf"--{flag}\b"):
        Recipe(**{flag: value})


@pytest.mark.parametrize(("flag", "value"), BAD_RECIPES + BAD_SETTINGS, ids=str)
def test_settings_refuse_what_cannot_run(flag, value):
    with pytest.raises(ValueError, match=rf"--{flag}\b"):
        Settings(**GOOD | {flag: value})


@pytest.mark.parametrize(
    ("flag", "value", "listed"),
    [
        ("maps", ("X",), "'X'.*H, V, G, HS, VS"),
        ("paddings", ("same",), "'same'.*zeros, reflect, replicate, circular"),
        ("pool_padding", "same", "zeros.*lowest"),
        ("normalize", "mnist", "encoder, none, imagenet, cifar10"),
        ("encoder", ("vgg17",), "vgg16.*resnet50.*resnet20"),
        ("feature_dtype", "float16", "bfloat16, float32"),
        ("dtype", "half", "'half'.*bfloat16, float32"),
        ("num_test", 0, "1 or more, found 0"),
        ("learning_rate", -2.0, "found -2"),
    ],
)
def test_the_refusal_says_what_was_found_and_what_there_is(flag, value, listed):
    with pytest.raises(ValueError, match=listed):
        Settings(**GOOD | {flag: value})


def test_the_recipe_of_the_paper_is_the_default():
    recipe = Recipe()
    assert (recipe.maps, recipe.depths, recipe.kernel_sizes) == (("H", "V", "G"), (1,), (3,))
    assert (recipe.readout_paddings, recipe.stages, recipe.solver) == ((0,), ("all",), "sgd")
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (15, 32, 0.1)
    settings = Settings(**GOOD)
    assert (settings.image_size, settings.normalize) == (224, "encoder")
    assert (settings.dtype, settings.feature_dtype) == ("float32", "bfloat16")
    assert {f.name: getattr(settings, f.name) for f in dataclasses.fields(Recipe)} == vars(recipe)


def test_shapes_are_the_grid_of_all_axes():
    recipe = Recipe(
        stages=("all", "f1+f2"), depths=(1, 3), kernel_sizes=(3,), readout_paddings=(0, 2)
    )
    assert list(recipe.shapes()) == [
        *[("all", 1, 3, 0), ("all", 1, 3, 2), ("all", 3, 3, 0), ("all", 3, 3, 2)],
        *[("f1+f2", 1, 3, 0), ("f1+f2", 1, 3, 2), ("f1+f2", 3, 3, 0), ("f1+f2", 3, 3, 2)],
    ]


def test_science_is_all_but_where_results_go_and_what_computes_them():
    settings = Settings(**GOOD)
    names = {field.name for field in dataclasses.fields(Settings)}
    hosts = {"coordinator_address": "h:1", "num_processes": 2, "process_id": 1}
    elsewhere = {"workdir": Path("b"), "cache_dir": Path("c"), "cache_limit_gb": 1.0, "devices": 3}
    elsewhere |= hosts | {"manual_dir": Path("d")}
    assert settings.science().keys() == names - elsewhere.keys()
    assert dataclasses.replace(settings, **elsewhere).science() == settings.science()
    assert dataclasses.replace(settings, epochs=3).science() != settings.science()


@pytest.mark.parametrize(
    ("address", "count", "index", "said"),
    [
        (None, 2, None, "need --coordinator_address"),
        (None, None, 0, "need --coordinator_address"),
        ("10.0.0.1", 2, 0, "HOST:PORT or auto, found '10.0.0.1'"),
        ("h:x", 2, 0, "HOST:PORT or auto"),
        ("h:1", None, 0, "found None and 0"),
        ("h:1", 2, None, "found 2 and None"),
        ("h:1", 2, 2, "found 2 and 2"),
        ("h:1", 2, -1, "found 2 and -1"),
    ],
)
def test_hosts_that_cannot_meet_are_refused(address, count, index, said):
    hosts = {"coordinator_address": address, "num_processes": count, "process_id": index}
    with pytest.raises(ValueError, match=said):
        Settings(**GOOD | hosts)


def test_ridge_is_linear_and_leaves_out_what_it_has_no_use_for():
    with pytest.raises(ValueError, match=r"--depths must be 1 with --solver=ridge.*found 1, 3"):
        Recipe(solver="ridge", depths=(1, 3))
    assert Settings(**GOOD).unused() == ()
    random = Settings(**GOOD | {"solver": "ridge"})
    of_file = Settings(**GOOD | {"solver": "ridge", "weights": ("a.npz",)})
    assert random.unused() == ("epochs", "learning_rate")
    assert of_file.unused() == ("epochs", "learning_rate", "seeds")
    sgd = Settings(**GOOD).science()
    assert random.science() == {k: v for k, v in sgd.items() if k not in random.unused()} | {
        "solver": "ridge"
    }
    assert "seeds" not in of_file.science()


def test_each_stands_for_every_layer_that_pads():
    settings = Settings(
        **GOOD | {"encoder": ("resnet18", "vgg11"), "paddings": ("zeros", "reflect+each=zeros")}
    )
    assert settings.paddings_of("vgg11") == [
        "zeros",
        *(f"reflect+features.{i}=zeros" for i in (0, 3, 6, 8, 11, 13, 16, 18)),
    ]
    assert "reflect+maxpool=zeros" in settings.paddings_of("resnet18")
    lowest = dataclasses.replace(settings, pool_padding="lowest")
    assert len(lowest.paddings_of("resnet18")) == len(settings.paddings_of("resnet18")) - 1
    assert lowest.science()["paddings"] == settings.paddings


def test_a_layer_that_is_named_twice_is_probed_once():
    settings = Settings(**GOOD | {"paddings": ("zeros+each=reflect", "zeros+features.0=reflect")})
    assert settings.paddings_of("vgg16").count("zeros+features.0=reflect") == 1


@pytest.mark.parametrize("padding", ["zeros@cropped", "zeros+maxpool=reflect"])
def test_what_pool_padding_would_overrule_is_refused(padding):
    with pytest.raises(ValueError, match=rf"--pool_padding=lowest .*--paddings={padding[:6]}"):
        Settings(
            **GOOD | {"encoder": ("resnet18",), "paddings": (padding,), "pool_padding": "lowest"}
        )


def test_random_controls_of_closed_forms_have_seeds():
    ridge = Settings(
        **GOOD | {"solver": "ridge", "weights": ("a.npz",), "controls": ("random",), "seeds": (5,)}
    )
    assert "seeds" not in ridge.unused()
    assert ridge.science()["seeds"] == (5,)


def test_every_setting_has_a_flag_of_its_name():
    source = Path(__file__).parents[2] / "experiments" / "flags.py"
    flags = set(re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', source.read_text()))
    of_programs = {"endless_train", "endless_test"}
    assert {field.name for field in dataclasses.fields(Settings)} - of_programs <= flags
