"""docs/tour.ipynb runs from top to bottom, and its stored outputs are what a reader should see."""

import copy
import re

from support import cli

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

PATH = cli.ROOT / "docs" / "tour.ipynb"


@pytest.fixture(scope="module")
def tour():
    return nbformat.read(PATH, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_eleven_steps_each_with_an_exercise(tour):
    text = "\n".join(cell.source for cell in tour.cells if cell.cell_type == "markdown")
    assert [int(number) for number in re.findall(r"(?m)^## (\d+)\. \w", text)] == list(range(1, 12))
    assert text.count("**Exercise.**") == 11


def test_solutions_are_folded(tour):
    for i, cell in enumerate(tour.cells):
        if "**Exercise.**" not in cell.source:
            continue
        answer = tour.cells[i + 1]
        hidden = answer.metadata.get("jupyter", {}).get("source_hidden", False)
        assert hidden or answer.source.startswith("<details>"), cell.source


def test_its_outputs_are_stored_small_and_of_one_run(tour):
    assert PATH.stat().st_size < 1_000_000
    cells = code_cells(tour)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(
        cell.outputs for cell in cells if "plt.show()" in cell.source or "print(" in cell.source
    )
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert not re.search(r"/(home|root|tmp|work|Users)/|stderr", PATH.read_text(encoding="utf-8"))


def test_it_runs_from_top_to_bottom(tour, tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    new = copy.deepcopy(tour)
    client = nbclient.NotebookClient(
        new, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(PATH.parent)}}
    )
    client.execute()
    text = printed(new)
    assert "the same as the network's own: True" in text
    assert "logits are sums of votes: True" in text
    assert float(re.search(r"largest relative error: (\S+)", text)[1]) < 1e-6
    accuracies = [float(found) for found in re.findall(r"parameters +([\d.]+)%", text)]
    assert accuracies == sorted(accuracies)  # each of the three changes helps
    # Numbers may differ in their last digits between machines; how much is printed doesn't.
    assert len(text.splitlines()) == len(printed(tour).splitlines())
