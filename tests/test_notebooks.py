"""The notebooks run from top to bottom, in order and on each other's runs, and are kept without
outputs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fake_runs import write_failed_run
from nbclient import NotebookClient
from scripts import ROOT

NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
TINY = {
    "IMAGES": "data=shapes data.num_train=200 data.num_test=60 max_epochs=1",
    "SEEDS": "0",
    "EPOCHS": "1",
    "TAIL": "data.imbalance=exp:4",
}


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_no_outputs_are_stored(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)
    assert "Exercises" in notebook.cells[-1].source


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all notebooks: what one has trained the next one skips."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture
def execute(outputs, tmp_path, monkeypatch):
    """Execute a notebook on tiny runs: all its outputs, the last of them the kernel's python."""
    for name, value in {**TINY, "OUTPUTS": str(outputs)}.items():
        monkeypatch.setenv(f"LEANVIT_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))

    def execute(name: str, folder: Path = ROOT / "notebooks") -> list[dict[str, Any]]:
        notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell("import sys; print(sys.executable)"))
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
        found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert found[-1]["text"].strip() == sys.executable
        return found

    return execute


def shown(outputs: Sequence[dict[str, Any]], kind: str) -> list[str]:
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def printed(outputs: Sequence[dict[str, Any]]) -> str:
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")


@pytest.mark.xdist_group("notebooks")
def test_a_grid_is_trained_compared_and_drawn(execute, outputs):
    write_failed_run(outputs / "grid" / "shapes" / "failed", "no space left")
    found = execute("1_grid")
    (table,) = shown(found, "text/markdown")
    assert "n = 60 test images" in table and "no space left" in table
    for name in ("demo_vit", "demo_coatnet"):
        for loss in ("ce", "focal"):
            assert f"{name}-{loss}-shuffle" in table
    assert len(shown(found, "image/png")) == 2  # curves, confusion matrices
    assert "comparison.html" in shown(found, "text/html")[0]
    assert "Prediction(label=" in printed(found)


@pytest.mark.xdist_group("notebooks")
def test_remedies_are_compared_by_class_and_in_pairs(execute, outputs):
    found = execute("2_imbalance", folder=ROOT)  # as where Jupyter was started in the root
    assert len(shown(found, "image/png")) == 1
    assert len(list((outputs / "imbalance").glob("*/*/metrics.json"))) == 4
    assert "no difference shown" in printed(found)


@pytest.mark.xdist_group("notebooks")
def test_lighter_nets_are_timed(execute, outputs):
    found = execute("3_lighter")
    assert len(shown(found, "image/png")) == 1
    (table,) = (outputs / "benchmark").glob("*/benchmark.csv")
    benchmark = table.read_text()
    assert len(benchmark.splitlines()) == 5  # the net, merged, pruned, half as deep
    assert "tome" in benchmark and "prune" in benchmark and "model.depth=2" in benchmark


@pytest.mark.xdist_group("notebooks")
def test_a_net_is_looked_into(execute, outputs):
    found = execute("4_inside")
    names = printed(found).split()
    assert {"attention", "rollout", "positions"} <= set(names)
    assert len(shown(found, "image/png")) >= 4
    assert "middle covered: " in printed(found) and "corner covered: " in printed(found)
