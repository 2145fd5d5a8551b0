"""Dependencies point down, optional packages stay optional, and importing lazystore costs nothing."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lazystore"

# Lowest first. A module imports only from lines below its own; names in one line do not know each
# other. Inside a package files import each other without cycles.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("knots",),
    ("chunks", "units", "clock", "anonymous_memory"),
    ("schema", "telemetry"),
    ("geometry", "overviews"),
    ("protocols",),
    ("video",),
    ("sources", "store"),
    ("convert", "cache"),
    ("array",),
    ("render", "events"),
    ("testing",),
    ("foreign", "xarray_tree"),
    ("dataset",),
    ("xarray_backend",),
    ("viewer", "analysis", "neurospatial"),
    ("demo",),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# Imported when first needed: each costs 0.1 to 3 s, or may not be installed.
HEAVY = ("zarr", "xarray", "dask", "distributed", "numba", "napari", "av", "h5py", "pandas", "tifffile",
         "imageio", "matplotlib", "obstore", "scipy", "neurospatial")  # fmt: skip

# Used where the user has them already, so not declared as an extra.
UNDECLARED = {
    "neurospatial": "its environments and overlays are passed in by its own users",
    "pandas": "comes with xarray",
}


@dataclass(frozen=True)
class Import:
    """One import statement's target."""

    target: str
    line: int
    at_top: bool
    for_types_only: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, those inside functions and under TYPE_CHECKING too."""

    def visit(node: ast.AST, at_top: bool, types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_top, types)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if whole in MODULES else str(node.module), node.lineno, at_top, types)
        else:
            at_top = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_top, types or guarded)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), True, False)


def layer_of(module: str) -> str:
    """The name in `LAYERS` that a module of ours belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_module_has_its_place() -> None:
    """A module that the layers do not name is decided about before it is imported by anyone."""
    unknown = sorted({layer_of(module) for module in MODULES} - set(LEVEL))
    assert not unknown, f"no layer names {unknown}; give each its line in LAYERS"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """A file imports only from layers below its own, or from its own package."""
    here = layer_of(module)
    wrong = [
        f"{module}:{found.line} imports {found.target}"
        for found in imports_of(MODULES[module])
        if found.target.split(".")[0] == "lazystore"
        and (there := layer_of(found.target)) != here
        and LEVEL.get(there, -1) >= LEVEL.get(here, -1)
    ]
    assert not wrong, wrong


def test_files_do_not_import_each_other_in_circles() -> None:
    """Every file can be read, and tested, after the files that it builds on."""
    graph = {
        module: {
            found.target
            for found in imports_of(path)
            if found.target in MODULES
            and found.target != module
            and found.at_top
            and not found.for_types_only
        }
        for module, path in MODULES.items()
        # The package's own file only names what users see; it imports when a name is asked for.
        if module != "lazystore"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@functools.cache
def heavy_modules() -> set[str]:
    """Modules of ours whose import loads a heavy package: compiled kernels, mostly."""
    at_top = {
        module: {found.target for found in imports_of(path) if found.at_top and not found.for_types_only}
        for module, path in MODULES.items()
    }
    heavy: set[str] = set()
    while True:
        more = {
            module
            for module, targets in at_top.items()
            if any(target in heavy or target.split(".")[0] in HEAVY for target in targets)
        }
        if more == heavy:
            return heavy
        heavy = more


@pytest.mark.parametrize("module", MODULES)
def test_own_modules_are_imported_at_the_top(module: str) -> None:
    """An import inside a function hides a cycle or a wrong place. Start-up time excuses it: in the
    front door and the command line, and for modules that load a heavy package."""
    if layer_of(module) in ("__init__", "cli"):
        return
    heavy = heavy_modules()
    hidden = [
        f"{module}:{found.line} imports {found.target} inside a function"
        for found in imports_of(MODULES[module])
        if found.target.split(".")[0] == "lazystore" and not found.at_top and found.target not in heavy
    ]
    assert not hidden, hidden


def declared_packages() -> set[str]:
    """Top-level names that the core dependencies and the extras in `all` bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = project["dependencies"] + [
        line for name, lines in extras.items() if name not in ("all", "test", "bench") for line in lines
    ]
    wanted = {re.split(r"[\[<>=~! ;]", line)[0].lower() for line in requirements}
    return {
        top
        for top, names in importlib.metadata.packages_distributions().items()
        if any(name.lower() in wanted for name in names)
    }


def test_only_declared_packages_are_imported() -> None:
    """What the package imports, its dependencies and extras bring; nothing slips in from the tests."""
    allowed = declared_packages() | set(sys.stdlib_module_names) | set(UNDECLARED) | {"lazystore"}
    wrong = [
        f"{module}:{found.line} imports {found.target}"
        for module, path in MODULES.items()
        for found in imports_of(path)
        if found.target.split(".")[0] not in allowed
    ]
    assert not wrong, wrong


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["lazystore", "lazystore.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    """`import lazystore` and `convert-to-zarr --help` wait for no package that they may not need."""
    if module not in MODULES:
        pytest.fail(f"{module} does not exist")
    assert not modules_after(f"import {module}").intersection(HEAVY)


def test_the_heavy_list_can_catch_something() -> None:
    """The check above sees a heavy package that is loaded."""
    assert "xarray" in modules_after("import xarray")
