"""The paper's data as TFDS builders that need no TensorFlow: DUTS to train on, PASCAL-S to test.

Importing this module makes `tfds:duts` and `tfds:pascal_s` known. Archives are downloaded, or taken
from the manual folder of TFDS (`TFDS_DATA_DIR/downloads/manual` unless another is given) where they
lie there already, as archives or unpacked. For research use; the images are their owners'.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow_datasets as tfds
from PIL import Image

_ADDRESSES = "Either the archive itself, or the folder that it unpacks to:\n{}"
_IGNORED = (".", "Thumbs.db", "desktop.ini")  # what desktops leave in folders

Folder = Path | zipfile.Path


class _Pairs(tfds.core.GeneratorBasedBuilder):
    """Images and the masks of their salient objects, with matching names, in two folders."""

    VERSION = tfds.core.Version("1.0.0")
    ABOUT: str
    HOMEPAGE: str
    CITATION: str
    URLS: Mapping[str, str]  # by split
    FOLDERS: Mapping[str, tuple[str, str]]  # of images and of masks, by split

    def _info(self) -> tfds.core.DatasetInfo:
        mask = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        features = {"image": tfds.features.Image(), "mask": mask, "name": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.ABOUT,
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
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
            images, masks = (_files(path, root, name) for name in self.FOLDERS[split])
            alone = sorted(images.keys() ^ masks.keys())
            if alone:
                raise ValueError(
                    f"{path}: {len(alone)} images or masks have no counterpart of their name, "
                    f"such as {alone[0]}"
                )
            for name in sorted(images):
                yield (
                    name,
                    {
                        "image": io.BytesIO(images[name].read_bytes()),
                        "mask": _mask(path, masks[name]),
                        "name": name,
                    },
                )


class Duts(_Pairs):
    """DUTS (Wang et al., CVPR 2017): 10,553 images to train on and 5,019 to test on."""

    ABOUT = "DUTS: 10,553 training and 5,019 test images with masks of their salient objects."
    HOMEPAGE = "http://saliencydetection.net/duts/"
    CITATION = (
        "@inproceedings{wang2017duts, title={Learning to Detect Salient Objects with Image-level "
        "Supervision}, author={Wang, Lijun and Lu, Huchuan and Wang, Yifan and Feng, Mengyang and "
        "Wang, Dong and Yin, Baocai and Ruan, Xiang}, booktitle={CVPR}, year={2017}}"
    )
    URLS = {  # noqa: RUF012 (a constant)
        "train": "http://saliencydetection.net/duts/download/DUTS-TR.zip",
        "test": "http://saliencydetection.net/duts/download/DUTS-TE.zip",
    }
    FOLDERS = {  # noqa: RUF012
        "train": ("DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask"),
        "test": ("DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask"),
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = _ADDRESSES.format("\n".join(URLS.values()))


class PascalS(_Pairs):
    """PASCAL-S (Li et al., CVPR 2014): 850 images of PASCAL VOC 2010, one split, `test`."""

    ABOUT = "PASCAL-S: 850 images of PASCAL VOC 2010 with masks of their salient objects."
    HOMEPAGE = "http://cbs.ic.gatech.edu/salobj/"
    CITATION = (
        "@inproceedings{li2014secrets, title={The Secrets of Salient Object Segmentation}, "
        "author={Li, Yin and Hou, Xiaodi and Koch, Christof and Rehg, James M. and Yuille, Alan "
        "L.}, booktitle={CVPR}, year={2014}}"
    )
    URLS = {"test": "http://cbs.ic.gatech.edu/salobj/download/salObj.zip"}  # noqa: RUF012
    FOLDERS = {  # noqa: RUF012
        "test": ("datasets/imgs/pascal", "datasets/masks/pascal")
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = _ADDRESSES.format(URLS["test"])


def _files(path: Path, root: Folder, folder: str) -> dict[str, Folder]:
    """The files of a folder by their names without ending."""
    place = root / folder
    if not place.is_dir():
        raise ValueError(f"{path} has no folder {folder}")
    entries = [e for e in place.iterdir() if e.is_file() and not e.name.startswith(_IGNORED)]
    files = {Path(entry.name).stem: entry for entry in entries}
    if len(files) < len(entries):
        raise ValueError(f"{path}: two files of {folder} have the same name")
    if not files:
        raise ValueError(f"{path}: the folder {folder} is empty")
    return files


def _mask(path: Path, file: Folder) -> Image.Image:
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            return image.convert("L")
    except OSError as error:
        raise ValueError(f"{path}: the mask {file.name} cannot be read: {error}") from error
