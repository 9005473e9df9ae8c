"""PyTorch's pickles: tensors stay inside of their storages, and nothing in a pickle is called.

The pickles are made here, and read in the two containers that PyTorch has for them.
"""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from posjax.encoders import read_checkpoint


def refused(path, match):
    with pytest.raises(ValueError, match=match) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


def archive_of(pickled, storages=(), order="little"):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("w/data.pkl", pickled)
        archive.writestr("w/byteorder", order)
        for key, data in enumerate(storages):
            archive.writestr(f"w/data/{key}", data)
    return content.getvalue()


def stream_of(pickled, storages=()):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    keys = [str(key) for key in range(len(storages))]
    sizes = [struct.pack("<q", len(data) // 4) + data for data in storages]
    return b"".join([*map(pickle.dumps, parts), pickled, pickle.dumps(keys), *sizes])


class Global:
    """Pickled as a name, by hand, because the name need not exist here."""

    def __init__(self, name):
        self.module, self.name = name.rsplit(".", 1)


class Pickler(pickle._Pickler):
    """Writes names, and storages as persistent ids, as torch.save does."""

    def persistent_id(self, value):
        return value[1:] if isinstance(value, tuple) and value[:1] == ("persistent",) else None

    def save_global_name(self, value):
        self.write(f"c{value.module}\n{value.name}\n".encode())

    def save_call(self, value):
        self.save(value.function)
        self.save(value.arguments)
        self.write(b"R")

    dispatch = pickle._Pickler.dispatch | {Global: save_global_name}


class Call:
    def __init__(self, name, *arguments):
        self.function, self.arguments = Global(name), arguments


Pickler.dispatch[Call] = Pickler.save_call


def pickled(value, protocol=2):
    content = io.BytesIO()
    Pickler(content, protocol).dump(value)
    return content.getvalue()


def tensor(offset=0, shape=(4,), strides=(1,), size=4, kind="torch.FloatStorage", view=()):
    storage = ("persistent", "storage", Global(kind), "0", "cpu", size, *view)
    return Call("torch._utils._rebuild_tensor_v2", storage, offset, shape, strides, False, None)


FOUR = np.arange(4, dtype=np.float32)


def test_pickles_made_here_are_read(tmp_path, same):
    path = tmp_path / "w.pth"
    for content in (archive_of, stream_of):
        path.write_bytes(content(pickled({"w": tensor(1, (2, 2), (1, 1))}), [FOUR.tobytes()]))
        same(read_checkpoint(path).arrays, {"w": np.array([[1, 2], [2, 3]], np.float32)})


def test_big_endian_archives_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(archive_of(pickled({"w": tensor()}), [FOUR.astype(">f4").tobytes()], "big"))
    refused(path, "big-endian machine: load it and save it again")


def test_views_of_a_storage_are_read_in_a_stream(tmp_path, same):
    path = tmp_path / "w.pth"
    seen = {"w": tensor(shape=(2,), view=[("v", 1, 2)])}
    path.write_bytes(stream_of(pickled(seen), [FOUR.tobytes()]))
    same(read_checkpoint(path).arrays, {"w": FOUR[1:3]})
    path.write_bytes(stream_of(pickled({"w": tensor(view=[("v", 1, 2)])}), [FOUR.tobytes()]))
    refused(path, "does not fit")


@pytest.mark.parametrize(
    "bad",
    [
        tensor(shape=(5,)),
        tensor(offset=1),
        tensor(offset=-1, shape=(1,)),
        tensor(strides=(-1,)),
        tensor(offset=1, shape=(2,), strides=(-1,)),
        tensor(shape=(2,), strides=(2,), view=[("v", 1, 2)]),
        tensor(strides=(2,)),
        tensor(shape=(3,), strides=(2**60,)),
        tensor(shape=(2, 2), strides=(1,)),
        tensor(shape=(2**40,), strides=(0,)),
        tensor(shape=(2**40, 2**40), strides=(1, 1)),
        tensor(offset=2**70, shape=(1,)),
        tensor(size=2**62),
        tensor(size=-4),
        tensor(shape=(4.0,)),
        tensor(kind="collections.OrderedDict"),
        tensor(kind="torch.DoubleStorage"),
        tensor(view=[("v", 2, 3)]),
        tensor(view=[("v", -1, 2)]),
    ],
    ids=lambda _: "",
)
@pytest.mark.parametrize("container", [archive_of, stream_of])
def test_tensors_that_reach_outside_their_storage_are_refused(tmp_path, bad, container):
    path = tmp_path / "w.pth"
    path.write_bytes(container(pickled({"w": bad}), [FOUR.tobytes()]))
    refused(path, "cannot be read")


def test_a_stream_whose_parts_disagree_is_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(stream_of(pickled({"w": tensor()}), [bytes(32)]))
    refused(tmp_path / "w.pth", "'0' has 8 values, expected 4")


@pytest.mark.parametrize(
    ("checkpoint", "match"),
    [
        ({}, "no tensors"),
        ({"epoch": 3}, "no tensors under names, only .*epoch"),
        ({"model": {"weights": [tensor()]}}, "no tensors under names, only .*model"),
        ([tensor()], "holds a list"),
        (tensor(), "holds a Tensor"),
        ({3: tensor()}, "no tensors under names"),
    ],
    ids=lambda _: "",
)
def test_checkpoints_without_a_state_dict_are_refused(tmp_path, checkpoint, match):
    (tmp_path / "w.pth").write_bytes(archive_of(pickled(checkpoint), [FOUR.tobytes()]))
    refused(tmp_path / "w.pth", match)


class Payload:
    """What would make a file if anything in a pickle were called."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("container", [archive_of, stream_of, bytes])
def test_code_in_a_pickle_never_runs(tmp_path, monkeypatch, protocol, container):
    monkeypatch.chdir(tmp_path)
    payloads = {
        r"(posix|nt)\.system": Payload(os.system, "touch ran"),
        r"(builtins|__builtin__)\.eval": Payload(eval, "open('ran', 'w')"),
        r"(builtins|__builtin__)\.exec": Payload(
            OrderedDict, [("a", Payload(exec, "open('ran', 'w')"))]
        ),
        r"numpy.*\.(_reconstruct|_frombuffer|scalar)": np.ones(3),
    }
    for match, payload in payloads.items():
        content = container(pickle.dumps({"state_dict": {}, "extra": payload}, protocol))
        (tmp_path / "w.pth").write_bytes(content)
        refused(tmp_path / "w.pth", f"asks for {match}")
    assert os.listdir(tmp_path) == ["w.pth"]


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # A memo of 2³¹ entries.
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",  # Bytes of 2⁶³ − 1.
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.",  # A frame of 2⁶³ − 1.
        b"\x80\x02" + b")" + b"\x85" * 10**5 + b"}(h\x00u.",  # A key that is not there.
        b"\x80\x02}(" + b")" + b"\x85" * 10**5 + b"Nu.",  # A key nested too deeply for a recursion.
        b"\x80\x02\x82\x01.",  # An extension code.
        b"ios\nsystem\n.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__N\x86b.",
        b"0.",
        b"t.",
        b".",
    ],
    ids=lambda _: "",
)
def test_hostile_pickles_are_refused_without_their_cost(tmp_path, code):
    (tmp_path / "w.pth").write_bytes(archive_of(code))
    refused(tmp_path / "w.pth", "cannot be read")


def test_archives_with_overlapping_entries_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", pickled({"w": tensor()}))
        archive.writestr("w/data/0", bytes(10**4))
        archive.filelist += [archive.filelist[-1]] * 3
    refused(tmp_path / "w.pth", "larger than the file")


def test_archives_that_inflate_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(10**6))
    refused(tmp_path / "w.pth", "compressed")
