"""docs/tour.ipynb: it runs from top to bottom, and what is stored of it is what a reader should see."""

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


def test_ten_steps_each_with_an_exercise_and_its_solution(tour):
    heads = [match for cell in tour.cells if (match := re.match(r"## (\d+)\. \w", cell.source))]
    assert [int(head[1]) for head in heads] == list(range(1, 11))
    after = [
        tour.cells[i + 1].source
        for i, cell in enumerate(tour.cells)
        if cell.cell_type == "markdown" and "**Exercise.**" in cell.source
    ]
    assert len(after) == 10 and all(source.startswith("# Solution") for source in after)


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
        new, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(PATH.parent)}}
    )
    client.execute()
    text = printed(new)
    assert (
        "the same as the network's own: True" in text and "logits are sums of votes: True" in text
    )
    assert float(re.search(r"largest relative error: (\S+)", text)[1]) < 1e-6
    learned, unseen = re.search(
        r"windows: (\d+)% of the training images right, (\d+)%", text
    ).groups()
    assert int(learned) > 80 and int(unseen) > 40
    # Numbers may differ in their last digits from machine to machine; how much is printed doesn't.
    assert len(text.splitlines()) == len(printed(tour).splitlines())
    assert [len(cell.outputs) > 0 for cell in code_cells(new)] == [
        len(cell.outputs) > 0 for cell in code_cells(tour)
    ]
