"""Processes of tests: several hosts on this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Host:
    """One of two processes, and what it has said so far."""

    def __init__(self, program, *args, log):
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *args],
                cwd=ROOT,
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                stdout=file,
                stderr=file,
            )

    def stop(self):
        self.process.kill()
        return self.process.wait()

    @property
    def said(self):
        return self.log.read_text()


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def wait(hosts, seconds=300):
    """The exit status of each, which fails where one takes longer."""
    try:
        return [host.process.wait(seconds) for host in hosts]
    finally:
        for host in hosts:
            host.stop()
