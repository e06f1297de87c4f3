"""The notebook runs from top to bottom on finished runs, and is kept without outputs."""

import os
import sys
from pathlib import Path

import nbformat
from fake_runs import SHAPES, write_failed_run, write_fake_run
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "compare_runs.ipynb"


def test_no_outputs_are_stored():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_it_shows_the_table_and_the_figures(tmp_path, monkeypatch):
    for seed in range(2):
        write_fake_run(tmp_path / "one" / f"a{seed}", seed=seed, loss="focal", test_wrong=[1, 5])
    write_fake_run(tmp_path / "one" / "b", val_wrong=[4], test_wrong=[2])
    write_failed_run(tmp_path / "one" / "c", "no space left")
    write_fake_run(tmp_path / "two" / "d", data="folder", source="folder birds")
    folders = [str(tmp_path / "one"), str(tmp_path / "two")]
    monkeypatch.setenv("LEANVIT_RUNS", os.pathsep.join(folders))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import sys; print(sys.executable)"))
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs[-1].text.strip() == sys.executable
    (table,) = [o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {})]
    assert f"{SHAPES}. n = 90 test images" in table
    assert "2 seeds" in table
    assert "no space left" in table
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) == 4  # curves and confusion matrices of two data sets
    assert not [output for output in outputs if output.get("name") == "stderr"]
