"""The devices and hosts of a run. Each field is a flag of the programs."""

import dataclasses

from posjax.runs.fields import DEVICES, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostSettings:
    """The devices of this host, and how the hosts of one run find each other."""

    devices: int = setting(0, **DEVICES)
    coordinator_address: str | None = setting(
        None,
        "HOST:PORT of process 0 where several hosts work on one run, or auto where the cluster "
        "knows it (SLURM, Cloud TPU, Open MPI). Every host gets the same flags.",
        result=False,
        default_text="one host",
        is_path=False,
    )
    num_processes: int | None = setting(
        None, "Number of hosts.", result=False, default_text="what the cluster says"
    )
    process_id: int | None = setting(
        None,
        "Index of this host, from 0. The first one's workdir is the run's.",
        result=False,
        default_text="what the cluster says",
    )

    def check_hosts(self) -> None:
        """Raises ValueError where the hosts cannot find each other by these settings."""
        address, count, index = self.coordinator_address, self.num_processes, self.process_id
        if address is None and (count is not None or index is not None):
            raise ValueError("num_processes and process_id need coordinator_address")
        if address is None or address == "auto":
            return
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"coordinator_address must be HOST:PORT or auto, found {address!r}")
        if count is None or index is None or not 0 <= index < count:
            raise ValueError(
                f"coordinator_address={address} needs num_processes and a process_id below it, "
                f"from 0; found {count} and {index}"
            )
