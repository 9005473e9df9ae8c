"""What programs set before anything is computed: devices, precision, and kept programs."""

import dataclasses
import hashlib
import os
import platform
import sys
import warnings
from logging import WARNING
from pathlib import Path

import jax
from absl import logging

from posjax.runs.fields import check_fields, setting
from posjax.runtime import encodable

# As JAX names them: three, each by two names.
PRECISIONS = ("default", "high", "highest", "bfloat16", "tensorfloat32", "float32")
# Files of TPUs, NVIDIA's and AMD's GPUs.
ACCELERATORS = ("accel*", "vfio/[0-9]*", "nvidia[0-9]*", "kfd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Settings of JAX."""

    precision: str | None = setting(
        None,
        "How TPUs and GPUs multiply float32 in convolutions, JAX's default_matmul_precision: "
        "default or bfloat16 (fastest: in bfloat16 on a TPU, in tensorfloat32 on a GPU), high or "
        "tensorfloat32, highest or float32. A CPU always takes float32.",
        choices=PRECISIONS,
        default_text="what $JAX_DEFAULT_MATMUL_PRECISION says, or else default",
    )
    compile_cache: str | None = setting(
        None,
        "Folder that keeps compiled programs, so that later runs need not compile them; empty to "
        "keep none.",
        default_text="posjax/compiled in $XDG_CACHE_HOME or ~/.cache, unless "
        "$JAX_COMPILATION_CACHE_DIR names another",
    )

    def __post_init__(self):
        """Refuses unknown values."""
        check_fields(self)


def start(machine: Machine, *, devices: int, quiet: bool) -> None:
    """Makes so many virtual devices of a CPU, and keeps compiled programs, see `keep_compiled`.

    Libraries report on every checkpoint; `quiet` leaves their warnings only. Figures are drawn to
    files, whatever MPLBACKEND a notebook hands down.

    Raises:
        ValueError: the folder of compiled programs cannot be written to; the system is Windows.
    """
    if sys.platform == "win32":
        raise ValueError("posjax runs on Linux and macOS, found Windows: start it within WSL")
    os.environ["MPLBACKEND"] = "agg"
    # It warns of damaged EXIF data and the like; what keeps an image from being read is an error.
    warnings.filterwarnings("ignore", module="PIL")
    if quiet:
        logging.set_verbosity(logging.WARNING)
        # Grain warns of worker processes when it is imported. None are used here.
        logging.get_absl_logger().addFilter(
            lambda record: record.levelno != WARNING or "grain" not in Path(record.pathname).parts
        )
    if machine.precision is not None:
        jax.config.update("jax_default_matmul_precision", machine.precision)
    if devices > 1:
        # Counts for the CPU alone, and only where nothing has been computed yet.
        jax.config.update("jax_num_cpu_devices", devices)
    keep_compiled(machine.compile_cache)


def keep_compiled(folder: str | None) -> None:
    """Lets JAX find compiled programs in `folder` and leave new ones there.

    None stands for the folder that JAX_COMPILATION_CACHE_DIR names, or else for posjax/compiled in
    the user's cache; an empty text keeps nothing. To be called before anything is compiled.

    Raises:
        ValueError: `folder` cannot be written to.
    """
    if folder == "":
        jax.config.update("jax_compilation_cache_dir", None)
        return
    # The programs are many and small. Those that JAX takes for too quick to keep add up to seconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if folder is None and jax.config.values["jax_compilation_cache_dir"]:
        return
    try:
        path = Path(folder).expanduser() if folder else _default_folder()
        if _computes_on_cpu():
            # One home may serve several machines, and what was compiled for one processor may use
            # instructions that another lacks.
            path /= _processor()
        if encodable(str(path)) != str(path):
            raise OSError("JAX takes a name in UTF-8 alone")
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("no permission to write")
    # RuntimeError: nobody's home directory is known.
    except (OSError, RuntimeError) as error:
        if folder:
            raise ValueError(f"compile_cache={folder} cannot be written to: {error}") from error
        logging.warning("compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(path))


def _computes_on_cpu() -> bool:
    # JAX's devices may not be listed before the hosts of a job have found each other.
    platforms = jax.config.values["jax_platforms"]
    if platforms:
        return platforms.split(",")[0] == "cpu"
    return not any(any(Path("/dev").glob(name)) for name in ACCELERATORS)


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "posjax" / "compiled"


def _processor() -> str:
    """A short name of what this processor can do."""
    about = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        # "flags" on x86, "Features" on ARM.
        about += sorted({x for x in lines if x.lower().startswith(("flags", "features"))})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
