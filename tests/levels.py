"""Small real datasets, written and read without TensorFlow."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

CUT, NOT_LABELLED = -1, 255


class PosjaxLevels(tfds.core.GeneratorBasedBuilder):
    """Flat images of known levels, from 100 on labelled as bright."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES = ("image", "label")

    def _info(self):
        label = tfds.features.ClassLabel(names=["dark", "bright"])
        features = {"image": tfds.features.Image(), "label": label}
        kept = tfds.features.FeaturesDict({name: features[name] for name in self.FEATURES})
        return tfds.core.DatasetInfo(builder=self, features=kept)

    def _split_generators(self, dl_manager):
        splits = {"train": range(0, 200, 20), "test": (7, 8, 9)}
        splits |= {"broken": (CUT,), "hidden": (NOT_LABELLED,)}
        return {name: self._generate_examples(levels) for name, levels in splits.items()}

    def _generate_examples(self, levels):
        for level in levels:
            label = -1 if level == NOT_LABELLED else int(level >= 100)
            example = {"image": _png(level), "label": label}
            yield level, {name: example[name] for name in self.FEATURES}


class PosjaxUnlabelled(PosjaxLevels):
    """The same without labels."""

    FEATURES = ("image",)


class PosjaxNumbers(PosjaxLevels):
    """The same without images."""

    FEATURES = ("label",)


class PosjaxOffline(PosjaxLevels):
    """A dataset whose download fails."""

    def _split_generators(self, dl_manager):
        raise ConnectionError("no route to host")


def _png(level):
    if level == CUT:
        return io.BytesIO(b"\x89PNG cut")
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), level, np.uint8)).save(buffer, "PNG")
    return io.BytesIO(buffer.getvalue())
