"""Notebooks run from start to end on a kernel of this checkout, and are kept without outputs."""

import ast
import os
import re
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
# Follows the cell tagged "parameters".
SMALL = f"""
PADDINGS, MAPS, SEEDS, CONTROLS = ("zeros", "reflect"), ("H",), (0,), ("floor",)
NUM_TRAIN, NUM_TEST, IMAGE_SIZE, BATCH_SIZE, EPOCHS = 4, 2, 32, 4, 1
WORKDIR = Path("run").absolute()
import posjax
assert Path(posjax.__file__).is_relative_to({str(ROOT)!r})
"""


def read(name):
    return nbformat.read(ROOT / "colabs" / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_both_are_there():
    assert NAMES == ["padding_ablation", "trained_encoders"]


@pytest.fixture(scope="module", params=NAMES)
def executed(request, tmp_path_factory):
    notebook = read(request.param)
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    notebook.cells.insert(tags.index(["parameters"]) + 1, nbformat.v4.new_code_cell(SMALL))
    folder = tmp_path_factory.mktemp(request.param)
    own = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "IPYTHONDIR": f"{folder}/ipython"}
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=os.environ | own)  # raises what a cell raises
    return notebook, folder


def test_runs_and_shows_tables_and_pictures(executed):
    notebook, folder = executed
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert all(cell.execution_count for cell in code(notebook))
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output.data for output in outputs if "data" in output]
    tables = "".join(data.get("text/html", "") for data in shown)
    assert "<caption>SPC</caption>" in tables
    assert '<th scope="row">reflect</th>' in tables
    assert "<th>reference</th>" in tables  # of a frame of differences
    assert [data.get("image/png", "")[:4] for data in shown].count("iVBO") == 2  # PNG files
    assert list(folder.glob("run/report/report.html"))


@pytest.mark.parametrize("name", NAMES)
def test_defines_nothing_of_its_own(name):
    cells = [TransformerManager().transform_cell(cell.source) for cell in code(read(name))]
    nodes = list(ast.walk(ast.parse("".join(cells))))
    own = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    assert not [node for node in nodes if isinstance(node, own)]
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    # Readers need the public names alone.
    assert not [module for module in imported if module.startswith("posjax.")]


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_jax_of_a_runtime_that_setup_cfg_takes(name):
    (oldest,) = re.findall('OLDEST = "(.*?)"', "".join(cell.source for cell in code(read(name))))
    assert f"\n    jax >= {oldest}\n" in (ROOT / "setup.cfg").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_is_kept_without_outputs(name):
    notebook = read(name)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.outputs or cell.execution_count for cell in code(notebook))
    assert (ROOT / "colabs" / f"{name}.ipynb").stat().st_size < 30_000
