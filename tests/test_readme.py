"""README.md shows the committed numbers, and no others."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- figures/mnist/table_headline.md -->\n"
END = "<!-- end -->"


def block(readme: str) -> str:
    """What README.md has between the two marks."""
    _, _, after = readme.partition(BEGIN)
    return after.partition(END)[0]


def test_the_results_table_is_the_committed_one() -> None:
    shown = block((ROOT / "README.md").read_text(encoding="utf-8"))
    made = (ROOT / "figures/mnist/table_headline.md").read_text(encoding="utf-8")
    assert shown.strip() == made.strip() != ""
