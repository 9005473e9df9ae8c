"""Hosts: processes that share the images, exchange values and stop together."""

import signal

import numpy as np
import pytest
from processes import Host, free_port, wait

from posjax import runtime
from posjax.runtime import multihost

TALK = """
import os, signal, sys
import numpy as np
from posjax import runtime

with runtime.distributed(f"localhost:{sys.argv[1]}", 2, host := int(sys.argv[2])):
    assert (runtime.hosts(), runtime.host(), runtime.is_first()) == (2, host, host == 0)
    assert runtime.all_gather_object("ab"[host]) == ["a", "b"]
    assert runtime.broadcast_object(lambda: {"a": "x" * 3000}[["a", "b"][host]]) == "x" * 3000
    values = np.arange(10).reshape(2, 5)
    local = runtime.local_indices(np.arange(5))
    np.testing.assert_array_equal(values[:, runtime.local_range(5)][:, local], values[:, host::2])
    np.testing.assert_array_equal(runtime.gather_rows(values[:, host::2], axis=1), values)
    for differ in ({"--seeds": host, "--maps": "H"}, {"weights": "0"} if host else {}):
        try:
            runtime.check_same(differ)
        except ValueError as error:
            print(error, flush=True)
    if host:
        exec(sys.argv[3])
    runtime.all_gather_object(None)
"""


@pytest.mark.parametrize(
    ("end", "status", "last"),
    [
        ("raise ValueError('3.png is damaged')", 1, "ValueError: 3.png is damaged"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "weights: None on host 0"),
    ],
    ids=["fails", "killed"],
)
def test_hosts_exchange_values_find_differences_and_stop_with_one(tmp_path, end, status, last):
    port = str(free_port())
    hosts = [Host(TALK, port, str(i), end, log=tmp_path / f"log{i}") for i in range(2)]
    assert wait(hosts, 90) == [1, status], hosts[0].said + hosts[1].said
    first, second = (host.said for host in hosts)
    for said in (first, second):
        assert "the hosts do not run the same: --seeds: 0 on host 0, 1 on host 1\n" in said
        assert "weights: None on host 0, '0' on host 1" in said
    assert last in second
    assert "ConnectionError: host 0 of 2 cannot go on, as when another host has stopped" in first


@pytest.mark.parametrize(("count", "hosts"), [(11, 2), (3, 5), (64, 3)])
def test_every_image_belongs_to_one_host(count, hosts, monkeypatch):
    monkeypatch.setattr(multihost, "hosts", lambda: hosts)
    rows = np.sort(np.random.default_rng(0).permutation(count)[: count // 2])
    owned = []
    for host in range(hosts):
        monkeypatch.setattr(multihost, "host", lambda host=host: host)
        images = runtime.local_range(count)
        local = runtime.local_indices(rows)
        assert [images[i] for i in local] == runtime.global_indices(local).tolist()
        owned += [images[i] for i in local]
    assert sorted(owned) == rows.tolist()


def test_one_host_has_all_images_and_talks_to_itself():
    assert runtime.local_range(5) == range(5)
    np.testing.assert_array_equal(runtime.local_indices(np.array([4, 2])), [4, 2])
    assert runtime.all_gather_object("a") == ["a"]
    assert runtime.broadcast_object(lambda: "a") == "a"
    runtime.check_same({"a": 1})
    assert runtime.global_devices(runtime.local_devices(3)) == tuple(runtime.local_devices(3))
