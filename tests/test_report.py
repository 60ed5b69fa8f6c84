"""One page of a run, and two runs side by side."""

import base64
import re
from pathlib import Path

import pandas as pd
import pytest

from ltgate import __main__, done, figures, paths, provenance
from ltgate.params import Params
from ltgate.runner import claims, compare, report, run_record

ROOT = Path(__file__).resolve().parent.parent
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def make_run(name: str, acc: float, **changes) -> None:
    """A finished run with a table and a figure of notebook 03, and a figure of none."""
    folder = paths.figures(name)
    table = pd.DataFrame({"method": ["lt_gate", "joint"], "metric": "acc", "mean": [acc, 0.5]})
    figures.save_table(table, folder, "table_main")
    for figure in ("r_heatmap", "drawn_by_hand"):
        (folder / f"{figure}.png").write_bytes(PIXEL + figure.encode() + str(acc).encode())
    made = [f"figures/{name}/table_main.csv", f"figures/{name}/r_heatmap.png"]
    outputs = {output: done.content(paths.root() / output) for output in made}
    entry = {"status": "done", "seconds": 61.0, "megabytes": 2.5, "outputs": outputs}
    record = provenance.describe(Params(name=name, **changes))
    run_record.write({**record, "file": "mine.yaml", "notebooks": {"03_train_slow": entry}})


def text(path: Path) -> str:
    return re.sub(r"<style.*?</style>", "", path.read_text(), flags=re.DOTALL)


def test_a_report_has_every_product_with_command_time_and_space(home, capsys):
    make_run("one", 0.9, eta=0.125)
    assert __main__.main(["report", "one"]) == 0
    path = home / "runs" / "one" / "report.html"
    assert str(path) in capsys.readouterr().out
    shown = text(path)
    assert "python -m ltgate run mine.yaml --only 03" in shown
    assert "This time: 61.0 s, 2.5 MB written" in shown
    assert shown.count("data:image/png;base64,") == 2
    assert "accuracy on each task after learning each task" in shown  # the figure's caption
    assert "0.900" in shown and "figures/one/table_main.csv" in shown
    assert "eta" in shown and "0.125" in shown
    assert shown.index("r_heatmap.png") < shown.index("drawn_by_hand.png")


def test_a_page_asks_nothing_of_the_network(home):
    shown = report.page(home / "page.html", "Title", ["# Head"]).read_text()
    assert "<title>Title</title>" in shown and "<script" not in shown
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", shown)
    assert "@import" not in shown


@pytest.mark.parametrize("product", ["r_heatmap.png", "table_main.csv"])
def test_a_product_that_is_not_as_the_run_made_it_is_refused(home, capsys, product):
    make_run("one", 0.9)
    file = home / "figures/one" / product
    file.write_bytes(b"")
    assert __main__.main(["report", "one"]) == 2
    assert capsys.readouterr().err == f"error: {file}: is not as the run made it; run it again\n"


def test_a_report_of_committed_figures_needs_no_run(home):
    figures.save_table(pd.DataFrame({"a": range(99)}), paths.figures("mnist"), "table_main")
    shown = text(report.report("mnist"))
    assert "Learning a task at another frame rate" in shown
    assert "python -m ltgate run params/mnist.yaml" in shown
    assert f"The first {report.LONGEST} of 99 rows" in shown


def test_a_task_may_be_called_na(home, capsys):
    for name, mean in (("one", 0.5), ("two", 0.25)):
        table = pd.DataFrame({"task": ["NA", "null", ""], "mean": [mean, 0.75, float("nan")]})
        figures.save_table(table, paths.figures(name), "table_data")
    back = figures.read_table(paths.figures("one") / "table_data.csv")
    assert back.isna().to_numpy().tolist() == [[False, False], [False, False], [True, True]]
    shown = text(report.report("one"))
    assert ">NA<" in shown and ">null<" in shown
    assert __main__.main(["compare", "one", "two"]) == 0
    assert "NA" in capsys.readouterr().out


def test_names_are_text_not_markup(home):
    make_run("one", 0.9)
    record = run_record.read("one")
    run_record.write({**record, "machine": {**record["machine"], "cpu": "<img src=x>"}})
    assert "<img src=x>" not in text(report.report("one"))


@pytest.mark.parametrize("name", ["never", "../secret"])
def test_a_report_of_nothing_is_refused(home, capsys, name):
    assert __main__.main(["report", name]) == 2
    assert name in capsys.readouterr().err


def test_two_runs_side_by_side(home, capsys):
    make_run("one", 0.9)
    make_run("two", 0.8, eta=0.125)
    found = compare.compare("one", "two")
    assert found["parameters"].T.to_dict("list") == {"eta": ["0.01", "0.125"]}
    (row,) = found["table_main"].to_dict("index").items()
    assert row == (
        ("lt_gate", "mean"),
        {"one": 0.9, "two": 0.8, "difference": pytest.approx(-0.1)},
    )
    assert __main__.main(["compare", "one", "two"]) == 0
    told = capsys.readouterr().out
    assert "0.125" in told and "-0.1" in told
    assert __main__.main(["compare", "one", "three"]) == 2
    assert __main__.main(["compare", "one", "one"]) == 2


def test_rows_that_one_table_lacks_are_told():
    first = pd.DataFrame({"method": ["a", "b"], "seeds": [3, 3], "mean": [1.0, 2.0]})
    second = first.assign(mean=1.0)

    def differ(one, other, *keys) -> list:
        found = compare.differences(one, other, ("one", "other"), [*keys])
        return found.reset_index().to_numpy().tolist()

    assert differ(first, first) == []
    assert differ(first, second.assign(mean=[1 + 1e-11, 2.0])) == []
    assert differ(first, second) == [["b", "mean", 2.0, 1.0, -1.0]]
    mixed = [frame[["mean", "method"]] for frame in (first, second)]
    assert differ(*mixed, "method", "peer") == [["b", "mean", 2.0, 1.0, -1.0]]
    lacking = differ(first, first[:1])
    assert [line[:3] for line in lacking] == [["b", "seeds", 3], ["b", "mean", 2.0]]
    assert all(pd.isna(line[3]) for line in lacking)


# ------------------------------------------------------------------------------------ claims


@pytest.mark.parametrize("claim", claims.claims(), ids=lambda claim: claim.id)
def test_every_claim_has_its_evidence_and_a_command(claim):
    assert claim.holds in ("yes", "partly", "no") and claim.source in ("paper", "artifact")
    folder = ROOT / "figures" / claim.run
    for name in claim.files:
        kinds = ("csv", "md") if name.startswith("table_") else ("png", "pdf")
        for kind in kinds:
            assert (folder / f"{name}.{kind}").is_file(), f"{name}.{kind}"
    for command in claim.command.split(" && "):
        program, module, *arguments = command.split()[1:]
        assert (program, module) == ("-m", "ltgate")
        assert __main__.parser().parse_args(arguments).action


@pytest.mark.parametrize("run", sorted({claim.run for claim in claims.claims()}))
def test_every_table_and_figure_of_a_claim_has_a_caption(run):
    folder = ROOT / "figures" / run
    drawn, tables = list(folder.glob("*.png")), list(folder.glob("table_*.csv"))
    assert tables
    assert [path for path in [*drawn, *tables] if not report.caption(path.stem)] == []


def test_the_cost_of_a_claim_is_that_of_its_notebooks(home, monkeypatch):
    rows = "name,notebook,seconds,megabytes,machine\na,01_x,1,2,m\na,05_y,10,20,m\nb,grid,5,6,m\n"
    monkeypatch.setattr(paths, "params", lambda: home)
    (home / "expected.csv").write_text(rows)
    assert claims.expected("a") == (11, 22)
    assert claims.expected("a", "05") == (10, 20)
    assert claims.expected("b") == (5, 6)
    assert claims.expected("c") == (None, None)


def test_a_command_that_is_no_notebook_notes_what_it_cost(home):
    params = Params(name="timed")
    with run_record.timed(params, "grid"):
        paths.figures("timed").mkdir(parents=True)
        (paths.figures("timed") / "x.csv").write_bytes(b"x" * 1000)
    record = run_record.read("timed")
    assert record["commands"]["grid"]["megabytes"] == 0.001 and record["hash"] == params.hash
    record["commands"]["grid"]["seconds"] = 100.0
    run_record.write(record)
    with run_record.timed(params, "grid"):
        pass
    assert run_record.read("timed")["commands"]["grid"]["seconds"] == 100.0
