"""The notebook runs from top to bottom on finished runs, and is kept without outputs."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from fake_runs import SHAPES, write_failed_run, write_fake_run
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "compare_runs.ipynb"


def test_no_outputs_are_stored():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def execute(folders: list[Path], scratch: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """All outputs of the notebook over ``folders``, the last of them the kernel's interpreter."""
    monkeypatch.setenv("LEANVIT_RUNS", os.pathsep.join(map(str, folders)))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1] / "src"))
    monkeypatch.setenv("IPYTHONDIR", str(scratch / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(scratch / "jupyter"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import sys; print(sys.executable)"))
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.xdist_group("trained")
def test_it_shows_the_table_and_the_figures(vit_run, tmp_path, monkeypatch):
    for seed in range(2):
        folder = tmp_path / "one" / f"a{seed}"
        write_fake_run(folder, seed=seed, data="one", loss="focal", test_wrong=[1, 5])
    write_fake_run(tmp_path / "one" / "b", data="one", val_wrong=[4], test_wrong=[2])
    write_failed_run(tmp_path / "one" / "c", "no space left")
    write_fake_run(tmp_path / "two" / "d", data="folder", source="folder birds")
    (write_fake_run(tmp_path / "two" / "e") / "metrics.json").write_text("")
    folders = [tmp_path / "one", tmp_path / "two", vit_run]
    outputs = execute(folders, tmp_path, monkeypatch)
    assert outputs[-1].text.strip() == sys.executable
    (table,) = [o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {})]
    assert f"{SHAPES}. n = 90 test images" in table
    assert f"{SHAPES}. n = 50 test images" in table  # of a run that was trained
    assert "2 seeds" in table
    assert "no space left" in table and "metrics.json is damaged" in table
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) == 6  # curves and confusion matrices of three data sets
    assert not [output for output in outputs if output.get("name") == "stderr"]
