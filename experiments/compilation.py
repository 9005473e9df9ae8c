"""What programs set before anything is computed: devices, and where compiled programs are kept."""

import hashlib
import os
import platform
from logging import WARNING, LogRecord
from pathlib import Path

import jax
from absl import logging


def start(
    devices: int, compile_cache: str | None, *, precision: str | None = None, quiet: bool
) -> None:
    """Makes so many virtual devices of a CPU, and keeps compiled programs, see `keep_compiled`.

    `precision` is JAX's default for products, None for what the environment says. Libraries report
    on every checkpoint; `quiet` leaves their warnings only.

    Raises:
        ValueError: `compile_cache` cannot be written to.
    """
    if quiet:
        logging.set_verbosity(logging.WARNING)
        # Where it is imported it warns of worker processes, which are not used here.
        logging.get_absl_logger().addFilter(_is_no_warning_of_grain)
    if precision is not None:
        jax.config.update("jax_default_matmul_precision", precision)
    if devices > 1:
        # Counts for the CPU alone, and only where nothing has been computed yet.
        jax.config.update("jax_num_cpu_devices", devices)
    keep_compiled(compile_cache)


def _is_no_warning_of_grain(record: LogRecord) -> bool:
    return record.levelno != WARNING or "grain" not in Path(record.pathname).parts


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
    # The programs are many and small; what JAX takes for too quick to keep adds up to seconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if folder is None and jax.config.jax_compilation_cache_dir:
        return
    # One home may serve several machines, and what was compiled for one processor may use
    # instructions that another lacks.
    try:
        path = (Path(folder).expanduser() if folder else _default_folder()) / _processor()
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("no permission to write")
    # RuntimeError: nobody's home directory is known.
    except (OSError, RuntimeError) as error:
        if folder:
            raise ValueError(f"--compile_cache={folder} cannot be written to: {error}") from error
        logging.warning("compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(path))


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "posjax" / "compiled"


def _processor() -> str:
    """A short name of what this processor can do."""
    about = [platform.machine(), platform.processor()]
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        lines = listed.read_text().splitlines()
        # "flags" on x86, "Features" on ARM.
        about += sorted({x for x in lines if x.lower().startswith(("flags", "features"))})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
