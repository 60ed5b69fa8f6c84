"""README.md, ARTIFACT.md and docs/: committed numbers, files that exist, blocks of their size.

Their commands: ``test_commands.py``; their code: ``test_extending.py``.
"""

import re
from pathlib import Path

import pytest
import yaml

from ltgate.errors import UserError
from ltgate.params import Params
from ltgate.runner import claims

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARTIFACT = (ROOT / "ARTIFACT.md").read_text(encoding="utf-8")
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in (
        ROOT / "README.md",
        ROOT / "ARTIFACT.md",
        ROOT / "params/README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
TABLE = re.compile(r"<!-- (figures/\S+\.md) -->\n(.*?)<!-- end -->", re.DOTALL)
BLOCKS = {name: block for page in PAGES.values() for name, block in TABLE.findall(page)}


def test_the_headline_is_there() -> None:
    assert "figures/mnist/table_headline.md" in BLOCKS


@pytest.mark.parametrize("name", BLOCKS)
def test_a_table_is_the_committed_one(name: str) -> None:
    made = (ROOT / name).read_text(encoding="utf-8")
    assert BLOCKS[name].strip() == made.strip() != ""


def test_the_findings_are_those_of_the_tables() -> None:
    """Every number in the ledger is a cell of a committed table."""
    page = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    assert claims.findings() in page
    for entry in yaml.safe_load((ROOT / "figures/findings.yaml").read_text(encoding="utf-8")):
        assert set(entry) == {"finding", "whose", "verdict", "evidence", "tried", "command"}
        assert entry["verdict"] in ("holds", "partly", "does not hold", "open")
        for text in (entry["evidence"], entry["tried"]):
            assert not re.search(r"[0-9]+\.[0-9]", re.sub(r"\{[^}]*\}", "", text)), text


def test_a_reference_to_no_cell_is_refused() -> None:
    with pytest.raises(UserError, match="0 rows; needed is one"):
        claims.filled("{mnist/table_main: method=none -> mean}")


def test_the_claims_are_the_listed_ones() -> None:
    """`python -m ltgate expected NAME` writes them anew."""
    assert claims.markdown() in ARTIFACT


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_linked_or_named_is_there(page: str) -> None:
    folder = (ROOT / page).parent
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", PAGES[page])
    links += re.findall(r"`((?:figures|params|ltgate|tests|tools|notebooks)/[\w./]+)`", PAGES[page])
    missing = [link for link in links if not ((folder / link).exists() or (ROOT / link).exists())]
    assert not missing


def test_readme_opens_with_two_sentences_and_one_figure() -> None:
    opening = README.split("```")[0].split("\n", 1)[1]
    words, figure = opening.split("![", 1)
    assert figure.rstrip().endswith(".png)")
    assert len(re.findall(r"[.!?](?:\s|$)", words)) == 2


def test_readme_is_read_in_a_minute() -> None:
    assert len(README.splitlines()) <= 150


# ------------------------------------------------------------------------------------ code


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES["docs/extend.md"], re.DOTALL)


def test_each_block_is_under_ten_lines() -> None:
    found = blocks("python") + blocks("yaml")
    assert len(found) == 6
    for block in found:
        assert len([line for line in block.splitlines() if line.strip()]) < 10, block


def test_the_task_is_a_valid_parameter_file(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(block)
    params = Params.load(tmp_path / "mine.yaml")
    assert [task.frames for task in params.tasks] == [50, 10]
    assert yaml.safe_load(block)["name"] == "mine"
