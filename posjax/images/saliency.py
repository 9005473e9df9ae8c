"""The paper's data as TFDS builders that need no TensorFlow: DUTS to train on, PASCAL-S to test.

Importing this module makes `tfds:duts` and `tfds:pascal_s` known. Archives are downloaded, or taken
from the manual folder of TFDS where they lie there already, as archives or unpacked. For research
use; the images are their owners'.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from posjax.images.folders import is_system
from posjax.images.mask_values import mask_pixels, settle
from posjax.images.pairs import match_masks

Folder = Path | zipfile.Path


class _Pairs(tfds.core.GeneratorBasedBuilder):
    """Images and the masks of their salient objects, with matching names, in two folders."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The archive of a split, or the folders that it unpacks to."
    HOMEPAGE: str
    URLS: Mapping[str, str]  # by split
    FOLDERS: Mapping[str, tuple[str, str]]  # of images and of masks, by split

    def _info(self) -> tfds.core.DatasetInfo:
        mask = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        features = {"image": tfds.features.Image(), "mask": mask, "name": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {
            split: self._generate_examples(self._path_of(dl_manager, split), split)
            for split in self.URLS
        }

    def _path_of(self, dl_manager: tfds.download.DownloadManager, split: str) -> Path:
        """The folder that holds a split's two folders, or the archive of it."""
        url = self.URLS[split]
        # The folder's absence is an assertion of TFDS: to us it means that nothing is there.
        with contextlib.suppress(AssertionError):
            manual = Path(dl_manager.manual_dir)
            archive = manual / url.rpartition("/")[2]
            if archive.exists():
                return archive
            if (manual / self.FOLDERS[split][0]).is_dir():
                return manual
        return Path(dl_manager.download(url))

    def _generate_examples(self, path: Path, split: str) -> Iterator[tuple[str, dict]]:
        with contextlib.ExitStack() as stack:
            root: Folder = path
            if path.is_file():
                if not zipfile.is_zipfile(path):
                    raise ValueError(f"{path} is no zip archive, or is cut off")
                root = zipfile.Path(stack.enter_context(zipfile.ZipFile(path)))
            images, masks = (_files(path, root, folder) for folder in self.FOLDERS[split])
            by_name = {file.name: file for file in masks}
            matching = match_masks([file.name for file in images], list(by_name), str(path))
            for image, mask in zip(images, matching, strict=True):
                name = Path(image.name).stem
                data = io.BytesIO(image.read_bytes())
                yield name, {"image": data, "mask": _mask(path, by_name[mask]), "name": name}


def _files(path: Path, root: Folder, folder: str) -> list[Folder]:
    """The files of a folder, in the order of their names."""
    place = root / folder
    if not place.is_dir():
        raise ValueError(f"{path} has no folder {folder}")
    files = [f for f in place.iterdir() if f.is_file() and not is_system(f.name)]
    if not files:
        raise ValueError(f"{path}: the folder {folder} is empty")
    return sorted(files, key=lambda file: file.name)


def _mask(path: Path, file: Folder) -> Image.Image:
    """A mask in grey levels, which are stored as they are and settled when the dataset is read."""
    name = f"{path}: the mask {file.name}"
    pixels, _ = mask_pixels(file.read_bytes(), name)
    is_grey = pixels.ndim == 2 and pixels.dtype == np.uint8
    return Image.fromarray(pixels if is_grey else settle(pixels, name)[0])


class Duts(_Pairs):
    """DUTS: 10,553 training and 5,019 test images with masks of their salient objects.

    Source: Wang et al., "Learning to detect salient objects with image-level supervision", CVPR
    2017.
    """

    HOMEPAGE = "http://saliencydetection.net/duts/"
    URLS = {  # noqa: RUF012 (a constant)
        "train": "http://saliencydetection.net/duts/download/DUTS-TR.zip",
        "test": "http://saliencydetection.net/duts/download/DUTS-TE.zip",
    }
    FOLDERS = {  # noqa: RUF012
        "train": ("DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask"),
        "test": ("DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask"),
    }


class PascalS(_Pairs):
    """PASCAL-S: 850 images of PASCAL VOC 2010 with masks of their salient objects, split `test`.

    Source: Li et al., "The secrets of salient object segmentation", CVPR 2014.
    """

    HOMEPAGE = "http://cbs.ic.gatech.edu/salobj/"
    URLS = {"test": "http://cbs.ic.gatech.edu/salobj/download/salObj.zip"}  # noqa: RUF012
    FOLDERS = {  # noqa: RUF012
        "test": ("datasets/imgs/pascal", "datasets/masks/pascal")
    }
