"""What a start waits for: no package that it does not need, no program compiled before."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from programs import ROOT

from experiments.start import Machine, keep_compiled, start
from posjax.runtime.precision import matmul_precision

HEAVY = (
    "grain",
    "huggingface_hub",
    "matplotlib",
    "orbax",
    "scipy",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
)


def python(code, **environment):
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_on_any_terminal_waits_for_no_heavy_package_and_import_posjax_gives_every_room():
    printed = python(
        "import runpy, sys\n"
        "sys.argv = ['padding_ablation', '--help']\n"
        "try:\n"
        "    runpy.run_module('experiments.padding_ablation', run_name='__main__')\n"
        "except SystemExit:\n"
        "    print('imported:', *sorted(name for name in sys.modules if '.' not in name))\n"
        "import posjax\n"
        "print('rooms:', *[getattr(posjax, room).__name__ for room in posjax.ROOMS])\n",
        PYTHONIOENCODING="ascii",
    )
    text, _, printed = printed.partition("imported:")
    imported, _, rooms = (part.split() for part in printed.partition("rooms:"))
    assert "--paddings" in text
    assert {"jax", "flax", "posjax"} <= set(imported)
    assert set(imported) & set(HEAVY) == set()
    assert {"posjax.layers", "posjax.encoders", "posjax.report", "posjax.ppp"} <= set(rooms)


def test_the_second_run_finds_what_the_first_one_compiled(tmp_path):
    code = (
        "import jax\n"
        "from experiments.start import Machine, start\n"
        "from posjax.runtime.precision import matmul_precision\n"
        f"start(Machine(compile_cache={str(tmp_path / 'kept')!r}), devices=0, quiet=True)\n"
        "events = []\n"
        "jax.monitoring.register_event_listener(lambda event, **_: events.append(event))\n"
        "print(matmul_precision(), jax.jit(lambda x: x * 3)(5.0))\n"
        "print(sum(event.endswith('/cache_hits') for event in events))\n"
    )
    # Without a flag the precision is that of the environment.
    environment = {"JAX_DEFAULT_MATMUL_PRECISION": "high"}
    assert python(code, **environment).split() == ["high", "15.0", "0"]
    kept = {path.name for path in tmp_path.rglob("*-cache")}
    assert kept
    assert python(code, **environment).split() == ["high", "15.0", str(len(kept))]
    assert {path.name for path in tmp_path.rglob("*-cache")} == kept


@pytest.fixture
def config():
    """JAX's own settings, put back after the test; nothing may be compiled in between."""
    names = (
        "jax_compilation_cache_dir",
        "jax_default_matmul_precision",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_precision_of_the_flag_is_that_of_every_product(config):
    assert matmul_precision() == "default"
    start(Machine(precision="float32", compile_cache=""), devices=0, quiet=False)
    assert matmul_precision() == "highest"
    matrix = jax.ShapeDtypeStruct((2, 2), jax.numpy.float32)
    assert "HIGHEST" in jax.jit(lambda a: a @ a).lower(matrix).as_text()


def test_the_default_folder_is_in_the_cache_of_the_user(config, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled(None)
    assert Path(config.jax_compilation_cache_dir).parent == tmp_path / "posjax" / "compiled"
    keep_compiled("")
    assert config.jax_compilation_cache_dir is None


def test_a_folder_that_jax_was_given_stays(config, tmp_path):
    config.update("jax_compilation_cache_dir", str(tmp_path / "given"))
    keep_compiled(None)
    assert config.jax_compilation_cache_dir == str(tmp_path / "given")


def test_a_folder_that_cannot_be_is_refused_by_its_flag(config, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"compile_cache=.*file/folder"):
        keep_compiled(str(tmp_path / "file" / "folder"))
    with pytest.raises(ValueError, match="compile_cache=~no-such-user/x cannot be written to"):
        keep_compiled("~no-such-user/x")
    # By default nobody chose it: the run goes on.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_compiled(None)
    assert config.jax_compilation_cache_dir is None


def test_compiled_programs_are_not_kept_at_an_address():
    with pytest.raises(ValueError, match="compile_cache: gs://bucket/programs is an address"):
        Machine(compile_cache="gs://bucket/programs")


def test_windows_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ValueError, match=r"^posjax runs on Linux and macOS, found Windows: .*WSL$"):
        start(Machine(), devices=0, quiet=False)
