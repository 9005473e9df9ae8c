"""Every program's own defaults fit together, and a run needs little of its system."""

import json
import os
import re
import subprocess
import sys

import pytest
from colours import write_images
from programs import QUICK, ROOT, TINY, rows, run

import posjax

PROGRAMS = (
    *("existence", "layer_ablation", "matched_valid", "padding_ablation"),
    *("padding_aware", "ppp", "readout_capacity", "stages"),
)
MASKS = ("masks", "test_masks")


@pytest.mark.parametrize("program", [*PROGRAMS, "train_encoder", "train_dense"])
def test_the_advice_of_an_error_is_a_flag_of_the_program(program, tmp_path):
    images = tmp_path / "images" / "red"
    images.mkdir(parents=True)
    (images / "1.png").write_bytes(b"nothing")
    flags = [f"--{name}={tmp_path / 'images'}" for name in ("images", "test_images")]
    flags += [f"--{name}={tmp_path / 'images'}" for name in MASKS if program == "train_dense"]
    done = run(program, tmp_path / "run", *flags)
    assert "red/1.png: no image" in done.stderr
    (advice,) = re.findall(r"--skip_bad_images\S*", done.stderr)
    assert (
        "no image is left, 1 of the files" in run(program, tmp_path / "run", *flags, advice).stderr
    )


@pytest.mark.parametrize("program", ["train_encoder", "train_dense"])
def test_sources_that_a_program_refuses_are_not_recommended(program, tmp_path):
    flags = [
        "--test_images=nowhere",
        *(f"--{n}=nowhere" for n in MASKS if program == "train_dense"),
    ]
    for images, problem in (("nowhere", "no folder 'nowhere'"), ("noise", "noise is generated")):
        error = run(program, tmp_path / "run", f"--images={images}", *flags).stderr
        assert f"error: --images: {problem}" in error
        assert "expected a folder, or tfds:NAME[:SPLIT]" in error
        assert "dead_leaves" not in error


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("flags", [[], ["--images=noise"]], ids=["demonstration", "paper"])
def test_defaults_are_refused_for_nothing_but_images_that_are_not_there(program, flags, tmp_path):
    # Shapes are checked before test images are opened, and nothing is encoded before that.
    done = run(program, tmp_path / "run", *flags, "--test_images=no such folder")
    assert "error: --test_images=no such folder" in done.stderr
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


# What macOS and some file systems lack, and an installation of posjax, which a checkout lacks.
SITE = """
import fcntl, importlib.metadata, os
find = importlib.metadata.distribution
def distribution(name):
    if name == "posjax":
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)
importlib.metadata.distribution = distribution
def refuse(*_, **__):
    raise OSError(95, "Operation not supported")
fcntl.flock = os.link = os.chmod = refuse
del os.posix_fallocate
"""


TWICE = """
import runpy
from absl.flags import FLAGS
for _ in range(2):
    try:
        runpy.run_module("experiments.padding_ablation", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    for flag in FLAGS.get_flags_for_module("experiments.flags"):
        delattr(FLAGS, flag.name)
"""


def test_a_run_on_a_poor_system_under_any_names_ends_and_goes_on(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    images = tmp_path / os.fsdecode(b"ph\xffotos [1]*")
    write_images(images, 8, side=32)
    command = [sys.executable, "-c", TWICE, *TINY, "--epochs=1"]
    command += ["--encoder=pixels", "--maps=H", "--num_train=4"]
    command += [f"--images={images}", f"--workdir={tmp_path}/run [1]*", f"--cache_dir={tmp_path}/c"]
    environment = {
        **(os.environ | QUICK),
        **{"PYTHONPATH": str(tmp_path / "site"), "MPLBACKEND": "module://no.such_backend"},
        **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "JAX_PLATFORMS": "cpu"},
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    out, err = done.stdout.decode("ascii"), done.stderr.decode("ascii")
    assert done.returncode == 0, err
    assert out.count("ph\\udcffotos [1]*") >= 2
    # The second run finds what the first one left.
    assert (out.count("report: "), out.count("encoding: ")) == (2, 1)
    assert "Traceback" not in err
    assert "ph\\udcffotos" in (tmp_path / "run [1]*" / "report.html").read_text("utf-8")
    config = json.loads((tmp_path / "run [1]*" / "config.json").read_text())
    assert config["versions"]["posjax"] == posjax.__version__


def test_a_network_in_a_file_of_the_user_s_own_is_probed(tmp_path):
    path = tmp_path / "network.py"
    path.write_text(
        "import jax, flax.linen as nn\n"
        "network = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu])\n"
        "def make():\n"
        "    return network.apply, network.init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 3)))\n"
    )
    tiny = [flag for flag in TINY if flag != "--weights=random"]
    flags = [f"--encoder={path}:make", "--maps=H", "--epochs=1", *tiny]
    done = run("padding_ablation", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    results = rows(tmp_path / "run" / "results.csv")
    assert [row["padding"] for row in results] == ["zeros", "reflect", "replicate", "circular"]
    assert {(row["encoder"], row["weights"]) for row in results} == {(f"{path}:make", "own")}
    error = run("padding_ablation", tmp_path / "other", *flags, "--weights=random").stderr
    assert "error: --weights means nothing to --solver=sgd with these encoders" in error
    path.write_text(path.read_text().replace("nn.relu", "nn.gelu"))
    error = run("padding_ablation", tmp_path / "run", *flags).stderr
    assert "belongs to a run with other" in error
    assert f"{path}:make: function" in error


@pytest.mark.parametrize("array", ["numpy.ones(10**15)", "jax.numpy.ones(10**15)"])
def test_a_program_that_runs_out_of_memory_says_what_to_make_smaller(array):
    code = (
        "import jax, numpy\n"
        "from experiments import flags, program\n"
        "from posjax.training import TrainingSettings\n"
        "flags.define(TrainingSettings, {}, {})\n"
        f"program.start_program(lambda: {array})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.match("error: .*(allocat|memory)", line)
    assert line.endswith(": make --batch_size, --image_size, --num_train smaller")
