"""TensorFlow datasets, read without TensorFlow."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a dataset's split by their keys, NAME/VERSION/SPLIT/ROW; images are encoded.

    `rows` is what tfds opened.
    """

    rows: Any
    keys: tuple[str, ...]

    @property
    def features(self) -> dict[str, Any]:
        """The features of every record, by name."""
        return dict(self.rows.dataset_info.features.items())

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        """One record.

        Raises:
            ValueError: it cannot be read; names it.
        """
        try:
            return self.rows[int(key.rpartition("/")[2])]
        # array_record raises RuntimeError, and what decodes the features anything.
        except Exception as error:
            raise ValueError(f"{key}: cannot be read: {error}") from error


def open_records(spec: str, manual_dir: Path | None = None) -> Records:
    """Opens `tfds:NAME[:SPLIT]` for random access.

    Raises:
        ValueError: there is no such dataset, or it cannot be read; says what failed. A file of it
            is missing, cut or has another number of records; names the file.
    """
    name, _, split = spec.removeprefix("tfds:").partition(":")
    split = split or "train"
    if not name or re.fullmatch(r"[\d*]+\.[\d*]+\.[\d*]+.*", split):
        raise ValueError(f"{spec}: expected tfds:NAME[:SPLIT], and a version cannot be chosen")
    # They take a while to import, and most runs never need them.
    import tensorflow_datasets as tfds

    from posjax.images import saliency  # noqa: F401 (makes its datasets known)

    if manual_dir is not None and not manual_dir.is_dir():
        raise ValueError(f"{spec}: there is no folder manual_dir={manual_dir}")
    manual = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        records: Any = tfds.data_source(
            name,
            split=split,
            # Read at each call, where tfds itself reads it once, on import.
            data_dir=os.environ.get("TFDS_DATA_DIR"),
            # Slices of a split, such as train[:10%], are silently ignored in the parquet format.
            builder_kwargs={"file_format": "array_record"},
            download_and_prepare_kwargs={"download_config": manual},
            decoders={"image": tfds.decode.SkipDecoding()},
        )
    # Builders are anyone's code: a missing network alone comes as a dozen types.
    except Exception as error:
        raise ValueError(
            f"{spec}: {type(error).__name__}: {error}\nDatasets are looked for under TFDS_DATA_DIR "
            "(default ~/tensorflow_datasets), prepared in the array_record format; one that is "
            "missing is downloaded and prepared, which some can only with pip install posjax[tf]"
        ) from error
    info = records.dataset_info
    _check_shards(spec, info.splits[split].file_instructions)
    opened = Records(records, tuple(f"{info.full_name}/{split}/{i}" for i in range(len(records))))
    image, features = opened.features.get("image"), opened.features
    if not isinstance(image, tfds.features.Image) or image.np_dtype == np.float32:
        known = ", ".join(f"{key} ({type(value).__name__})" for key, value in features.items())
        raise ValueError(f"{spec}: no feature image of 8 or 16 bits; its features are {known}")
    return opened


def _check_shards(spec: str, shards: Any) -> None:
    """Refuses a split one of whose files has lost its index, as a file that was cut has."""
    from array_record.python.array_record_module import ArrayRecordReader

    for shard in shards:
        count = ArrayRecordReader(shard.filename, options="readahead_buffer_size:0").num_records()
        if count != shard.examples_in_shard:
            raise ValueError(
                f"{spec}: {shard.filename} is missing, cut or damaged: expected "
                f"{shard.examples_in_shard} records, found {count}; copy or prepare it again"
            )
