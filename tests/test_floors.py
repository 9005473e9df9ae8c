"""The house: what may import what, read from the syntax tree of every file."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("posjax/**/*.py"), *ROOT.glob("experiments/**/*.py")])
# Public functions whose options are keywords, and a step that JAX transforms.
WIDE = {
    "posjax.encoders.frozen.frozen",
    "posjax.encoders.wrap.wrap",
    "posjax.probes.trainer.fit",
    "posjax.runs.fields.setting",
    "posjax.probes.trainer.train_step",
    "posjax.training.objective.train_step",
}
GROUND = {"layers", "runtime"}
ABOVE = {
    "layers": set(),
    "runtime": set(),
    "images": {"runtime"},
    "transforms": {"layers"},
    "encoders": {"transforms"} | GROUND,
    "features": {"images", "encoders"} | GROUND,
    "probes": {"layers"},
    "fitting": {"probes", "features"} | GROUND,
    "results": {"probes", "encoders", "runtime"},
    "report": {"results", "probes", "encoders", "runtime"},
    "runs": {"images", "encoders", "features", "probes", "fitting", "results", "report"} | GROUND,
}
BELOW_RUNS = ABOVE["runs"] | {"runs"}
ABOVE |= {"ppp": BELOW_RUNS | {"transforms"}, "training": BELOW_RUNS}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def tree_of(path):
    return ast.parse(path.read_text(), str(path))


def imports(module, tree):
    """All that a module imports at any depth: `from a import b` is a.b where that is a module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = (
                    module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
                )
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES or base in ("jax", "absl") else base)
    return found


IMPORTS = {module: imports(module, tree_of(path)) for module, path in MODULES.items()}


def used(module):
    """Dotted names that a module imports or writes out, such as jax.pmap."""
    names = set(IMPORTS[module])
    for node in ast.walk(tree_of(MODULES[module])):
        if isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
    return names


def uses(module, name):
    return any(used == name or used.startswith(f"{name}.") for used in used(module))


@pytest.mark.parametrize("module", [m for m in MODULES if m.count(".") >= 1 and m[:6] == "posjax"])
def test_a_room_imports_only_what_stands_below_it(module):
    room = module.split(".")[1]
    for imported in IMPORTS[module]:
        package, _, inside = imported.partition(".")
        assert package != "experiments"
        if package == "posjax" and inside:
            assert inside.split(".")[0] in ABOVE[room] | {room}, f"{module} imports {imported}"


def test_the_rooms_are_these():
    rooms = {module.split(".")[1] for module in MODULES if module.startswith("posjax.")}
    assert rooms == set(ABOVE)
    assert "posjax.layers" in IMPORTS["posjax.encoders.vgg"]
    assert {"posjax.runtime", "posjax.probes"} <= IMPORTS["posjax.fitting.sgd"]


def test_experiments_stand_on_posjax_and_nothing_stands_on_them():
    programs = [module for module in MODULES if module.startswith("experiments")]
    assert "experiments.flags" in programs
    for module, imported in IMPORTS.items():
        assert module in programs or not any(name.startswith("experiments") for name in imported)


def test_no_module_imports_itself_in_a_circle():
    graph = {module: imported & MODULES.keys() for module, imported in IMPORTS.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert (
        order.index("posjax.layers") < order.index("posjax.encoders") < order.index("posjax.runs")
    )


@pytest.mark.parametrize("name", ["jax.pmap", "jax.distributed", "jax.sharding", "multihost_utils"])
def test_only_the_runtime_knows_of_several_devices(name):
    using = [module for module in MODULES if uses(module, name)]
    assert len(using) == 1
    assert set(using) <= {"posjax.runtime.devices", "posjax.runtime.multihost"}


def test_only_flags_reads_flags_and_only_experiments_know_absl():
    for module in MODULES:
        defines = {name.rpartition(".")[2] for name in used(module)}
        reads = any(name == "FLAGS" or name.startswith("DEFINE_") for name in defines)
        assert reads == (module == "experiments.flags"), module
        assert not (module.startswith("posjax") and uses(module, "absl"))


@pytest.mark.parametrize("name", ["torch", "tensorflow", "beartype", "pytest"])
def test_what_only_tests_and_benchmarks_need_is_not_imported(name):
    importing = [module for module in MODULES if name in {i.split(".")[0] for i in IMPORTS[module]}]
    # The benchmark's other side runs in processes of its own.
    other_side = {m for m in MODULES if m.startswith("experiments.benchmarks.torch_")}
    assert set(importing) <= (other_side if name == "torch" else set())
    assert all(not IMPORTS[m] & other_side for m in MODULES if m not in other_side)


@pytest.mark.parametrize("module", MODULES)
def test_every_file_is_short_and_says_what_it_does(module):
    source = MODULES[module].read_text()
    assert len(source.splitlines()) <= 250
    assert ast.get_docstring(ast.parse(source))


def functions(module):
    tree = tree_of(MODULES[module])
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("module", MODULES)
def test_every_function_is_short_and_has_few_parameters(module):
    for function in functions(module):
        name = f"{module}.{function.name}"
        arguments = function.args
        count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
        count -= bool(arguments.args and arguments.args[0].arg in ("self", "cls"))
        body = function.body[1:] if ast.get_docstring(function) else function.body
        length = function.end_lineno - body[0].lineno + 1
        assert length <= 45, f"{name} has {length} lines"
        assert count <= 6 or name in WIDE, f"{name} has {count} parameters"


def lines_of(path):
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("room", ABOVE)
def test_no_room_is_crowded(room):
    files = list((ROOT / "posjax" / room).glob("*.py"))
    assert len(files) <= 14
    lines = {
        r: sum(len(p.read_text().splitlines()) for p in ROOT.glob(f"posjax/{r}/**/*.py"))
        for r in ABOVE
    }
    assert lines[room] <= sum(lines.values()) / 5


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import posjax.fitting.sgd", {"posjax.fitting.sgd"}),
        ("def f():\n  from posjax.fitting import sgd", {"posjax.fitting.sgd"}),
        ("from posjax.layers import pad, conv", {"posjax.layers", "posjax.layers.conv"}),
        ("from . import readout", {"posjax.probes.readout"}),
        ("from ..fitting.sgd import SGD", {"posjax.fitting.sgd"}),
        ("from jax import pmap", {"jax.pmap"}),
        ("import numpy as np", {"numpy"}),
    ],
)
def test_no_way_of_importing_escapes(source, expected):
    assert imports("posjax.probes.trainer", ast.parse(source)) == expected
