"""Writes the checkpoints beside this file; needs torch, which the tests do not."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def main():
    numbers = torch.arange(24.0)
    tensors = {
        "float32": numbers.reshape(2, 3, 4) / 7,
        "transposed": (numbers.reshape(4, 6) / 3).T,
        "view": numbers.clone()[5:21].reshape(4, 4)[1:, ::2],
        "same_storage": numbers[20:],
        "channels_last": numbers.clone().reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.tensor([1.0, -1.0])),
        "float64": torch.tensor([1 / 3], dtype=torch.float64),
        "float16": torch.tensor([1 / 3], dtype=torch.float16),
        "bfloat16": torch.tensor([[1 / 3, -2.0]], dtype=torch.bfloat16).T,
        "int64": torch.tensor([-(2**40)]),
        "int32": torch.tensor([-5], dtype=torch.int32),
        "int16": torch.tensor([-5], dtype=torch.int16),
        "int8": torch.tensor([-5], dtype=torch.int8),
        "uint8": torch.tensor([250], dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
    }
    state = OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items())
    state._metadata = OrderedDict({"": {"version": 1}})
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "best_acc1": torch.tensor(0.5),
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "arguments": {"name": "é", "rates": [0.1, (1, 2), None, True]},
    }
    torch.save(checkpoint, HERE / "archive.pth")
    torch.save(checkpoint, HERE / "protocol4.pth", pickle_protocol=4)
    torch.save(checkpoint, HERE / "stream.pth", _use_new_zipfile_serialization=False)
    torch.save(model, HERE / "whole_model.pth")

    def reduce_as_in_pytorch_0_3(tensor, _):
        numbers = tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
        return torch._utils._rebuild_tensor, (tensor.storage(), *numbers)

    torch.Tensor.__reduce_ex__ = reduce_as_in_pytorch_0_3
    torch.save({"model": tensors}, HERE / "old.pt", _use_new_zipfile_serialization=False)

    new = {str(kind): torch.ones(2, 3).to(kind) for kind in (torch.uint16, torch.float8_e4m3fn)}
    last = {"complex": torch.ones(2, dtype=torch.complex64), "w": torch.arange(3.0)}
    types = {"new": new, "a": {"b": {"c": {"d": {"e": last}}}}}
    torch.save(types, HERE / "types.pth")
    torch.save(types, HERE / "types_stream.pth", _use_new_zipfile_serialization=False)

    arrays = {
        name: tensor.detach().float().numpy() if name == "bfloat16" else tensor.detach().numpy()
        for name, tensor in tensors.items()
    }
    np.savez_compressed(HERE / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
