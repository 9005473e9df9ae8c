"""TensorFlow datasets, read without TensorFlow."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np


def open_records(spec: str, manual_dir: Path | None = None) -> tuple[Any, str]:
    """Opens `tfds:NAME[:SPLIT]` for random access, its images encoded; the records and the split.

    Raises:
        ValueError: there is no such dataset, or it cannot be read; says what failed.
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
    features = dict(records.dataset_info.features.items())
    image = features.get("image")
    if not isinstance(image, tfds.features.Image) or image.np_dtype == np.float32:
        known = ", ".join(f"{key} ({type(value).__name__})" for key, value in features.items())
        raise ValueError(f"{spec}: no feature image of 8 or 16 bits; its features are {known}")
    return records, split
