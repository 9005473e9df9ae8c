"""What a start waits for: no package that it does not need, no program compiled before."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments.start import keep_compiled

ROOT = Path(__file__).parents[2]
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


def python(code: str, **environment: str) -> str:
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


@pytest.mark.parametrize(
    ("flag", "environment", "in_force"),
    [(None, "", "default"), (None, "high", "high"), ("float32", "high", "highest")],
    ids=["nothing", "environment", "flag"],
)
def test_the_precision_is_the_flag_s_or_else_the_environment_s(flag, environment, in_force):
    code = (
        "import jax\n"
        "from experiments.start import Machine, start\n"
        "from posjax.runtime.precision import matmul_precision\n"
        f"start(Machine(precision={flag!r}, compile_cache=''), devices=0, quiet=True)\n"
        "print(matmul_precision())\n"
        "print('HIGHEST' in jax.jit(lambda a: a @ a).lower(jax.numpy.ones((2, 2))).as_text())\n"
    )
    known = {"JAX_DEFAULT_MATMUL_PRECISION": environment} if environment else {}
    assert python(code, **known).split() == [in_force, str(in_force == "highest")]


def test_help_waits_for_no_heavy_package():
    printed = python(
        "import runpy, sys\n"
        "sys.argv = ['padding_ablation', '--help']\n"
        "try:\n"
        "    runpy.run_module('experiments.padding_ablation', run_name='__main__')\n"
        "except SystemExit:\n"
        "    print('imported:', *sorted(name for name in sys.modules if '.' not in name))\n"
    )
    text, _, imported = printed.partition("imported:")
    assert "--paddings" in text
    assert {"jax", "flax", "posjax"} <= set(imported.split())
    assert set(imported.split()) & set(HEAVY) == set()


def test_import_posjax_gives_every_room():
    code = "import posjax; print(*[getattr(posjax, room).__name__ for room in posjax.ROOMS])"
    rooms = python(code).split()
    assert {"posjax.layers", "posjax.encoders", "posjax.report", "posjax.ppp"} <= set(rooms)


def test_the_second_run_finds_what_the_first_one_compiled(tmp_path):
    code = (
        "import jax\n"
        "from experiments.start import keep_compiled\n"
        f"keep_compiled({str(tmp_path / 'kept')!r})\n"
        "found = []\n"
        "jax.monitoring.register_event_listener(lambda event, **_: found.append(event))\n"
        "print(jax.jit(lambda x: x * 3)(5.0))\n"
        "print(sum(event.endswith('/cache_hits') for event in found))\n"
    )
    value, hits = python(code).split()
    assert (value, hits) == ("15.0", "0")
    kept = {path.name for path in tmp_path.rglob("*-cache")}
    assert kept
    value, hits = python(code).split()
    assert (value, int(hits)) == ("15.0", len(kept))
    assert {path.name for path in tmp_path.rglob("*-cache")} == kept


@pytest.fixture
def config(monkeypatch):
    """JAX's own settings, put back after the test; nothing may be compiled in between."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_default_folder_is_in_the_cache_of_the_user(config, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled(None)
    assert Path(config.jax_compilation_cache_dir).parent == tmp_path / "posjax" / "compiled"
    keep_compiled("")
    assert config.jax_compilation_cache_dir is None


def test_the_folder_that_jax_was_told_stays(config, tmp_path):
    config.update("jax_compilation_cache_dir", str(tmp_path / "told"))
    keep_compiled(None)
    assert config.jax_compilation_cache_dir == str(tmp_path / "told")


def test_a_folder_that_cannot_be_is_refused_by_its_flag(config, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"compile_cache=.*file/folder"):
        keep_compiled(str(tmp_path / "file" / "folder"))
    # By default nobody asked for it: the run goes on.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_compiled(None)
    assert config.jax_compilation_cache_dir is None


def test_a_home_that_nobody_knows_is_told_with_the_flag():
    with pytest.raises(ValueError, match="compile_cache=~no-such-user/x cannot be written to"):
        keep_compiled("~no-such-user/x")
