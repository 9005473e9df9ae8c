"""A folder of small real datasets, see `levels`."""

import levels  # noqa: F401 (makes its datasets known)
import pytest


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """The folder of the datasets; what is not in it is prepared when it is opened."""
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def data_dir(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return prepared
