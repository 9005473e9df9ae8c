"""Settings: values that cannot run are refused by the name of their field."""

import dataclasses
from pathlib import Path

import pytest

from posjax.encoders import Padding
from posjax.fitting import SGD, ReadoutSpec, Ridge
from posjax.runs import ReadoutSettings, Settings

GOOD = {
    "encoder": ("vgg16",),
    "weights": ("random",),
    "paddings": ("zeros", "reflect"),
    "images": "dead_leaves",
    "test_images": ("noise", "black"),
    "workdir": Path("somewhere"),
}

BAD_VALUES = {
    "stages": [(), ("f1", "f1")],
    "maps": [("H", "X"), ()],
    "depths": [(0,), (1, 1)],
    "kernel_sizes": [(3, 0)],
    "readout_paddings": [(-1,)],
    "seeds": [(-1,), (2, 2)],
    "solver": ["adam"],
    "batch_size": [0],
    "epochs": [0],
    "learning_rate": [0.0, float("nan"), float("inf")],
    "feature_dtype": ["float16"],
    "encoder": [("vgg17",)],
    "paddings": [(), ("zeros", "zeros"), ("zeros", "same")],
    "pool_padding": ["same"],
    "normalize": ["mnist"],
    "dtype": ["float16"],
    "test_images": [(), ("noise", "noise")],
    "num_train": [0],
    "num_test": [-1],
    "default_num_train": [0],
    "default_num_test": [0],
    "image_size": [1],
    "cache_limit_gb": [-0.1, float("nan")],
    "devices": [-1, 5000],
}
BAD = [(flag, value) for flag, values in BAD_VALUES.items() for value in values]
BAD += [
    ("paddings", (text,)) for text in ("zeros+features.1=reflect", "zeros+each=same", "zeros@small")
]


@pytest.mark.parametrize(("flag", "value"), BAD, ids=str)
def test_settings_refuse_values_that_cannot_run(flag, value):
    with pytest.raises(ValueError, match=rf"^{flag}\b"):
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
def test_the_error_says_what_was_found_and_what_was_expected(flag, value, listed):
    with pytest.raises(ValueError, match=listed):
        Settings(**GOOD | {flag: value})


def test_the_recipe_of_the_paper_is_the_default():
    readouts = ReadoutSettings()
    assert (readouts.maps, readouts.depths, readouts.kernel_sizes) == (("H", "V", "G"), (1,), (3,))
    assert (readouts.readout_paddings, readouts.stages) == ((0,), ("all",))
    assert readouts.fitter == SGD(15, 0.1, 32)
    assert dataclasses.replace(readouts, solver="ridge").fitter == Ridge(32)
    settings = Settings(**GOOD)
    assert (settings.image_size, settings.normalize) == (224, "encoder")
    assert (settings.dtype, settings.feature_dtype) == ("float32", "bfloat16")


def test_specs_are_the_grid_of_all_axes():
    settings = ReadoutSettings(
        stages=("all", "f2+f1"), depths=(1, 3), kernel_sizes=(3,), readout_paddings=(0, 2)
    )
    assert list(settings.specs(("f1", "f2", "f3"))) == [
        ReadoutSpec(stages, depth, 3, padding)
        for stages in (("f1", "f2", "f3"), ("f1", "f2"))
        for depth in (1, 3)
        for padding in (0, 2)
    ]


def test_specs_vary_one_thing_at_a_time():
    settings = ReadoutSettings(depths=(1, 2), kernel_sizes=(3, 5), one_at_a_time=True)
    shapes = [(spec.depth, spec.kernel_size) for spec in settings.specs(("f1", "f2"))]
    assert shapes == [(1, 3), (1, 5), (2, 3)]


@pytest.mark.parametrize(
    ("stages", "available", "expected"),
    [
        ("each", ("f1", "f2"), [("f1",), ("f2",)]),
        ("f3+f1", ("f1", "f2", "f3"), [("f1", "f3")]),
        ("f2", ("f1",), [("f1",)]),  # pixels have a single stage, whatever is selected
    ],
)
def test_stages_are_named_one_by_one_or_together(stages, available, expected):
    specs = ReadoutSettings(stages=(stages,)).specs(available)
    assert [spec.stages for spec in specs] == expected


@pytest.mark.parametrize("stages", ["f4", "f1+f1", "f1+", "f1,f2", "All"])
def test_stages_that_do_not_exist_are_refused(stages):
    with pytest.raises(ValueError, match=r"stages.*'all' or different stages of f1, f2, f3"):
        list(ReadoutSettings(stages=(stages,)).specs(("f1", "f2", "f3")))


def test_identity_leaves_out_where_results_go_and_what_computes_them():
    settings = Settings(**GOOD)
    names = {field.name for field in dataclasses.fields(Settings)}
    elsewhere = {"workdir": Path("b"), "cache_dir": Path("c"), "cache_limit_gb": 1.0, "devices": 3}
    elsewhere |= {"coordinator_address": "h:1", "num_processes": 2, "process_id": 1}
    elsewhere |= {"manual_dir": Path("d"), "preset": "demo"}
    assert settings.identity().keys() == names - elsewhere.keys()
    assert dataclasses.replace(settings, **elsewhere).identity() == settings.identity()
    assert dataclasses.replace(settings, epochs=3).identity() != settings.identity()


@pytest.mark.parametrize(
    ("address", "count", "index", "message"),
    [
        (None, 2, None, "need coordinator_address"),
        (None, None, 0, "need coordinator_address"),
        ("10.0.0.1", 2, 0, "HOST:PORT or auto, found '10.0.0.1'"),
        ("h:x", 2, 0, "HOST:PORT or auto"),
        ("h:1", None, 0, "found None and 0"),
        ("h:1", 2, None, "found 2 and None"),
        ("h:1", 2, 2, "found 2 and 2"),
        ("h:1", 2, -1, "found 2 and -1"),
    ],
)
def test_hosts_that_cannot_meet_are_refused(address, count, index, message):
    hosts = {"coordinator_address": address, "num_processes": count, "process_id": index}
    with pytest.raises(ValueError, match=message):
        Settings(**GOOD | hosts)


def test_ridge_is_linear_and_leaves_out_what_it_does_not_use():
    with pytest.raises(ValueError, match=r"depths must be 1 with solver=ridge.*found 1, 3"):
        ReadoutSettings(solver="ridge", depths=(1, 3))
    assert Settings(**GOOD).unused() == ()
    random = Settings(**GOOD | {"solver": "ridge"})
    trained = Settings(**GOOD | {"solver": "ridge", "weights": ("a.npz",)})
    assert random.unused() == ("epochs", "learning_rate")
    assert trained.unused() == ("epochs", "learning_rate", "seeds")
    assert not {"epochs", "learning_rate"} & random.identity().keys()
    assert "seeds" not in trained.identity()
    controlled = dataclasses.replace(trained, controls=("random",), seeds=(5,))
    assert controlled.identity()["seeds"] == [5]


def test_each_stands_for_every_layer_that_pads():
    settings = Settings(
        **GOOD | {"encoder": ("resnet18", "vgg11"), "paddings": ("zeros", "reflect+each=zeros")}
    )
    layers = [f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)]
    expected = [Padding("zeros"), *(Padding("reflect", ((layer, "zeros"),)) for layer in layers)]
    assert settings.paddings_of("vgg11") == expected
    pool = Padding.parse("reflect+maxpool=zeros")
    assert pool in settings.paddings_of("resnet18")
    lowest = dataclasses.replace(settings, pool_padding="lowest")
    assert pool not in lowest.paddings_of("resnet18")
    assert settings.identity()["paddings"] == ["zeros", "reflect+each=zeros"]


def test_a_layer_that_is_named_twice_is_probed_once():
    settings = Settings(**GOOD | {"paddings": ("zeros+each=reflect", "zeros+features.0=reflect")})
    named = Padding.parse("zeros+features.0=reflect")
    assert settings.paddings_of("vgg16").count(named) == 1


@pytest.mark.parametrize("padding", ["zeros@cropped", "zeros+maxpool=reflect"])
def test_a_padding_that_pool_padding_would_overrule_is_refused(padding):
    with pytest.raises(ValueError, match=rf"pool_padding=lowest .*paddings={padding[:6]}"):
        Settings(
            **GOOD | {"encoder": ("resnet18",), "paddings": (padding,), "pool_padding": "lowest"}
        )


def test_the_default_number_of_images_counts_only_where_no_number_is_given():
    given = Settings(**GOOD, num_train=5, default_num_train=7).identity()
    assert given == Settings(**GOOD, num_train=5, default_num_train=9).identity()
    assert "default_num_test" in given


@pytest.mark.parametrize("address", ["gs://bucket/run", "file:///run", "s3://a", "https://b.c/d"])
@pytest.mark.parametrize(
    "name", ["workdir", "cache_dir", "manual_dir", "images", "test_images", "weights"]
)
def test_addresses_are_refused_wherever_a_file_or_folder_is_meant(name, address):
    in_tuple = name in ("test_images", "weights")
    value = (address,) if in_tuple else Path(address) if name.endswith("dir") else address
    shown = address.replace(":///", "://")
    with pytest.raises(ValueError, match=f"{name}: {shown} is an address, expected a file or"):
        Settings(**GOOD | {name: value})


def test_a_folder_is_one_whatever_its_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = [
        Settings(workdir=Path(f"{a}runs{b}"), images=f"{a}photos{b}", test_images=(f"{a}t{b}",))
        for a in ("", "./", ".//")
        for b in ("", "/", "//")
    ]
    assert len(set(settings)) == 1
    assert settings[0].workdir == tmp_path / "runs"
    assert settings[0].identity()["images"] == "photos"
    # Alone, these words stand for generators.
    assert Settings(images="./noise").images == "./noise"
    assert Settings(images="tfds:a/b//").images == "tfds:a/b//"
    with pytest.raises(ValueError, match=r"test_images needs one or more different values"):
        Settings(test_images=("photos", "./photos/"))
