"""Settings of training: values that cannot run are refused by the name of their field."""

import pytest

from posjax.training.settings import OptimizerSettings, TrainingSettings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "must be 1 or more, found 0"),
        ("batch_size", 0, "must be 1 or more, found 0"),
        ("learning_rate", 0.0, "must be above 0, found 0.0"),
        ("learning_rate", float("inf"), "must be finite, found inf"),
        ("schedule", "steps", "'steps' is unknown"),
        ("warmup_epochs", 30.0, "must be below 30 epochs, found 30.0"),
        ("momentum", 1.0, "must be below 1, found 1.0"),
        ("label_smoothing", 1.0, "must be below 1, found 1.0"),
        ("crop_margin", -1, "must be 0 or more, found -1"),
        ("dtype", "float16", "'float16' is unknown"),
    ],
)
def test_optimizer_settings_out_of_range_are_refused_by_name(name, value, message):
    with pytest.raises(ValueError, match=f"^{name}:? {message}"):
        OptimizerSettings(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "pixels"}, "^encoder: 'pixels' is unknown; expected one of vgg11"),
        ({"paddings": ("mirror",)}, "^paddings: .*'mirror' is unknown"),
        ({"paddings": ("zeros+conv9=reflect",)}, "zeros.conv9=reflect names conv9"),
        ({"paddings": ("zeros", "zeros")}, "^paddings needs one or more different values"),
        ({"paddings": ("valid@enlarged",)}, "^paddings: alignments such as valid@enlarged"),
        ({"seeds": (0, -1)}, "^seeds must be 0 or more, found -1"),
        ({"seeds": (2**32,)}, "^seeds must be below"),
        ({"image_size": 4, "paddings": ("reflect",)}, "^image_size=4: .*too small"),
        ({"image_size": 16, "encoder": "vgg11"}, "^image_size=16: .*too small"),
        ({"evaluate_every": 0}, "^evaluate_every must be 1 or more, found 0"),
        ({"num_train": 0}, "^num_train must be 1 or more, found 0"),
        ({"normalize": "zscore"}, "^normalize: 'zscore' is unknown"),
        ({"weights_dtype": "int8"}, "^weights_dtype: 'int8' is unknown"),
        ({"devices": -1}, "^devices must be 0 or more, found -1"),
    ],
)
def test_training_settings_that_cannot_run_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**{"images": "nowhere", "test_images": "nowhere"} | changes)


def test_the_identity_of_a_run_holds_what_determines_its_results_and_nothing_else():
    common = {"images": "here", "test_images": "there"}
    one = TrainingSettings(**common)
    same = TrainingSettings(**common, seeds=(1,), paddings=("reflect",), devices=1)
    other = TrainingSettings(**common, optimizer=OptimizerSettings(learning_rate=0.2))
    assert one.identity() == same.identity()
    assert one.identity() | {"learning_rate": 0.2} == other.identity()
