"""Files of weights: every kind is read exactly; nothing else is, and no code in them runs."""

import hashlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posjax.encoders import read_checkpoint

DATA = Path(__file__).parent / "data"  # Written by PyTorch 2.13, see data/make.py.
RECORDED = ["archive.pth", "protocol4.pth", "stream.pth", "old.pt"]
EXPECTED = dict(np.load(DATA / "expected.npz"))
WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2)}


@pytest.mark.parametrize("file", RECORDED)
def test_pytorch_files_are_read_without_pytorch(file, same):
    same(read_checkpoint(DATA / file).arrays, EXPECTED)


def test_digest_is_that_of_the_file_and_another_is_refused():
    content = (DATA / "archive.pth").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert read_checkpoint(DATA / "archive.pth", digest=digest).digest == digest
    with pytest.raises(ValueError, match=f"archive.pth has the SHA-256 {digest}, expected 00"):
        read_checkpoint(DATA / "archive.pth", digest="00")


def test_safetensors_are_read_with_their_metadata(tmp_path, same):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(WEIGHTS, path, metadata={"normalize": "cifar10"})
    same(read_checkpoint(path).arrays, WEIGHTS)
    assert read_checkpoint(path).metadata == {"normalize": "cifar10"}
    safetensors.numpy.save_file(WEIGHTS, path)
    assert read_checkpoint(path).metadata == {}


def test_safetensors_bfloat16_becomes_float32(tmp_path, same):
    path = tmp_path / "w.safetensors"
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\x80\x3f\x20\xc0")
    same(read_checkpoint(path).arrays, {"w": np.array([1.0, -2.5], np.float32)})


def test_safetensors_of_a_type_that_is_not_read_are_named_by_it(tmp_path):
    path = tmp_path / "w.safetensors"
    header = b'{"w":{"dtype":"F8_E4M3","shape":[2,3],"data_offsets":[0,6]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(6))
    array = read_checkpoint(path).arrays["w"]
    assert (array.shape, array.dtype.names) == ((2, 3), ("F8_E4M3",))


@pytest.mark.parametrize("file", ["types.pth", "types_stream.pth"])
def test_pytorch_files_with_new_types_and_deep_dicts_are_read(file):
    checkpoint = read_checkpoint(DATA / file)
    kinds = {name: array.dtype.names for name, array in checkpoint.nests["new"].items()}
    assert kinds == {f"torch.{kind}": (kind,) for kind in ("uint16", "float8_e4m3fn")}
    assert checkpoint.nests["new"]["torch.uint16"].shape == (2, 3)
    assert checkpoint.nests["a.b.c.d.e"]["complex"].dtype == np.complex64
    np.testing.assert_array_equal(checkpoint.nests["a.b.c.d.e"]["w"], [0, 1, 2])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read(tmp_path, save, same):
    save(tmp_path / "w.npz", **WEIGHTS)
    same(read_checkpoint(tmp_path / "w.npz").arrays, WEIGHTS)


def test_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", w=np.array([print], object))
    refused(tmp_path / "w.npz", "allow_pickle=False")


def test_module_is_stripped_only_where_every_name_begins_with_it(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, **{"module.a": np.ones(1), "module.b": np.ones(2)})
    assert list(read_checkpoint(path).arrays) == ["a", "b"]
    np.savez(path, **{"module.a": np.ones(1), "b": np.ones(2)})
    assert list(read_checkpoint(path).arrays) == ["module.a", "b"]


def test_suffix_may_be_upper_case_and_path_a_string(tmp_path, same):
    (tmp_path / "W.PTH").write_bytes((DATA / "archive.pth").read_bytes())
    same(read_checkpoint(str(tmp_path / "W.PTH")).arrays, EXPECTED)


# Refusals


def refused(path, match):
    with pytest.raises(ValueError, match=match) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


def zip_of(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return stream.getvalue()


OTHER_KINDS = {
    b"version https://git-lfs.github.com/spec/v1\noid": "a pointer of Git LFS",
    b"\x1f\x8b\x08\x00": "a gzip archive",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, such as Keras writes: .* numpy.savez",
    b'{"metadata": {}, "weight_map": {}}': "An index of weights in shards",
    b"PK\x03\x04 half of an archive": "a zip archive that is cut off",
    zip_of("m/data.pkl", "m/constants.pkl", "m/code/m.py"): "a TorchScript module",
    zip_of("config.json", "metadata.json", "model.weights.h5"): r"a \.keras file",
    b"some text": "begins with b'some text', expected safetensors",
}


def test_missing_files_folders_and_other_kinds_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.pth"):
        read_checkpoint(tmp_path / "none.pth")
    (tmp_path / "w.pth").mkdir()
    refused(tmp_path / "w.pth", "is a directory")
    for content, words in OTHER_KINDS.items():
        (tmp_path / "w.bin").write_bytes(content)
        refused(tmp_path / "w.bin", words)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_what_a_failed_download_leaves_is_refused(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"")
    refused(path, "empty")
    path.write_bytes(b"\n<!DOCTYPE html><html>404")
    refused(path, "web page")
    path.write_bytes(b"not weights")
    refused(path, "cannot be read")


@pytest.mark.parametrize("file", [*RECORDED, "expected.npz", "w.safetensors"])
def test_truncated_files_are_refused(tmp_path, file):
    if file == "w.safetensors":
        content = safetensors.numpy.save(WEIGHTS)
    else:
        content = (DATA / file).read_bytes()
    path = tmp_path / file
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        refused(path, "cannot be read")
    path.write_bytes(content[:-1])
    refused(path, "cannot be read")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    file=st.sampled_from([*RECORDED, "expected.npz"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
)
def test_damaged_files_give_arrays_or_a_value_error(tmp_path, file, flips):
    content = bytearray((DATA / file).read_bytes())
    for place, byte in flips:
        content[int(place * len(content))] = byte
    (tmp_path / file).write_bytes(content)
    try:
        arrays = read_checkpoint(tmp_path / file).arrays
    except ValueError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    # Zip archives have checksums: what is read from them is what was written.
    if file in ("archive.pth", "protocol4.pth", "expected.npz"):
        for name in EXPECTED.keys() & arrays.keys():
            np.testing.assert_array_equal(arrays[name], EXPECTED[name])


def test_a_whole_model_is_refused_by_name():
    refused(DATA / "whole_model.pth", r"torch\.nn\.modules\.linear\.Linear.*model\.state_dict\(\)")


def test_a_tar_archive_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"\0" * 257 + b"ustar" + b"\0" * 1000)
    refused(path, "tar archive")
