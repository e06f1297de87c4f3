"""Who imports whom: downward only, in no circle, and nothing heavy before it is needed."""

import ast
from pathlib import Path

from scripts import ROOT

SRC = ROOT / "src"
LAYERS = {
    "app": 4,
    "training": 3, "evaluation": 3,
    "lightweight": 2, "compression": 2, "pretraining": 2, "classifiers": 2,
    "models": 1, "losses": 1, "samplers": 1, "augment": 1, "optimizers": 1, "data": 1,
    "contracts": 0, "values": 0, "errors": 0, "files": 0, "seeds": 0, "memory": 0, "weights": 0,
    "device": 0, "balanced_accuracy": 0, "cores": 0, "plain_yaml": 0,
}  # fmt: skip


def module_of(path: Path) -> str:
    """``src/leanvit/data/split.py`` as ``leanvit.data.split``."""
    name = ".".join(path.relative_to(SRC).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(path): path for path in SRC.rglob("*.py") if "egg-info" not in str(path)}


def imports_of(path: Path, anywhere: bool = True) -> set[str]:
    """Modules that a file imports; those at its top alone if not ``anywhere``."""
    tree, found = ast.parse(path.read_text()), set()
    nodes = ast.walk(tree) if anywhere else at_import(tree.body)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {str(node.module)}
            if names & MODULES.keys() != names:
                found.add(str(node.module))
    return found


def at_import(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements that run when a module is imported; not those for type checkers."""
    found = []
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            found += at_import(node.body) + at_import(node.orelse)
        elif isinstance(node, ast.Try):
            found += at_import(node.body)
        else:
            found.append(node)
    return found


def test_nothing_imports_upward() -> None:
    for name, path in MODULES.items():
        if not name.startswith("leanvit."):
            continue
        here = name.split(".")[1]
        for module in imports_of(path):
            parts = module.split(".")
            if here != "app":
                assert parts[0] not in ("hydra", "omegaconf"), f"{name} imports {module}"
            assert parts[0] == "leanvit" or parts[0] not in MODULES, f"{name} imports {module}"
            if parts[0] == "leanvit" and len(parts) > 1:
                assert LAYERS[parts[1]] <= LAYERS[here], f"{name} imports {module}"
                if here == "models":
                    assert parts[1] not in ("losses", "data"), f"{name} imports {module}"
                if here == "data":
                    assert parts[1] not in ("losses", "models"), f"{name} imports {module}"


def test_entry_scripts_import_the_command_alone() -> None:
    for name, path in MODULES.items():
        if "." not in name and name != "leanvit":
            assert imports_of(path) == {"leanvit.app.entry"}, name


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(stack[at:])
            del stack[at:]

    for name in graph:
        if name not in number:
            visit(name)
    return found


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert circles(graph) == [["b", "c"]]


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imports_of(path, anywhere=False) & (MODULES.keys() - {name})
             for name, path in MODULES.items()}  # fmt: skip
    assert sum(map(len, graph.values())) > 300  # it has seen the imports
    assert circles(graph) == []


def test_nobody_rewrites_the_command_line() -> None:
    told_hydra = "leanvit.app.left_to_jobs"  # and takes it back
    for name, path in ((name, path) for name, path in MODULES.items() if name != told_hydra):
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            assert not any("'argv'" in ast.dump(each) for each in targets), name
