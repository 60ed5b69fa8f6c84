"""Progress bars as a saved notebook keeps them."""

import nbclient
import nbformat
import pytest

CELL = """
import time
from ltgate.progress import track

print("before")
for _ in track(range(2), label="outer"):
    for _ in track(iter("abc"), 3, "inner"):
        time.sleep(0.2)
for _ in track("de", label="last"):
    time.sleep(0.3)
list(track("quick", label="too quick to be shown"))
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_saved_notebook_has_one_bar_a_cell_and_it_is_full(monkeypatch) -> None:
    monkeypatch.delenv("LTGATE_PROGRESS", raising=False)
    again, failing = (
        "list(track([1, 2]))",
        "for i in track([0.6, 1]):\n    time.sleep(i); i / (i < 1)",
    )
    cells = [nbformat.v4.new_code_cell(source) for source in (CELL, again, failing)]
    ran = nbclient.execute(nbformat.v4.new_notebook(cells=cells), allow_errors=True)
    printed, bar, value = ran.cells[0].outputs
    assert printed.text == "before\n"
    assert bar.data["text/plain"].startswith("last: 100%|") and "2/2" in bar.data["text/plain"]
    assert value.data["text/plain"] == "['q', 'u', 'i', 'c', 'k']"
    assert [output.output_type for output in ran.cells[1].outputs] == ["execute_result"]
    stopped, error = ran.cells[2].outputs
    assert "50%|" in stopped.data["text/plain"] and error.ename == "ZeroDivisionError"
