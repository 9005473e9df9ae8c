"""The flags of programs that train on images with masks."""

from typing import Any

from absl import flags

from experiments import training_flags
from posjax import training
from posjax.images import STATISTICS

_MASKS = flags.DEFINE_string(
    "masks",
    None,
    "Folder of the masks of --images, of the same names but for their ending. tfds: has its own.",
)
_TEST_MASKS = flags.DEFINE_string("test_masks", None, "Folder of the masks of --test_images.")

_DEFAULTS: dict[str, tuple[Any, str]] = {
    "encoder": (["vgg8_bn_quarter"], "Encoder; a decoder without padding of its own joins it."),
    "images": (None, "Folder of images to train on, or tfds:NAME[:SPLIT]. Required."),
    "test_images": (
        [],
        "Folder of images to test on, or tfds:NAME[:SPLIT]. Default: those of --images behind the "
        "first --num_train, in the order of their names.",
    ),
    "num_train": (None, "Number of training images, the first by name. Default: all."),
    "num_test": (None, "Number of test images, the first by name. Default: all."),
    "image_size": (96, "Height and width of what the encoder sees, pixels. Default: 96."),
    "normalize": ("imagenet", f"Statistics of the images, of {', '.join(STATISTICS)}."),
    "batch_size": (16, "Images in a step, over all devices; a multiple of their number."),
    "epochs": (40, "Passes over the training images."),
    "crop_margin": (16, "Images are opened so many pixels larger; see --help of train_encoder."),
}


def adapt() -> None:
    """Gives the flags that all experiments share the defaults and words of this program."""
    training_flags.adapt(_DEFAULTS, _MASKS.name, _TEST_MASKS.name)


def settings(program: str) -> training.DenseSettings:
    """The settings that the flags describe; `program` names the default workdir.

    Raises:
        ValueError: a value that cannot run, or one that is missing; names its flag.
    """
    flag = training_flags.common_settings(program)
    if not flag["images"]:
        raise ValueError("--images is needed: a folder of images, or tfds:NAME[:SPLIT]")
    return training.DenseSettings(**flag, masks=_MASKS.value, test_masks=_TEST_MASKS.value)
