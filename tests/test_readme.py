"""README.md shows the committed numbers, and no others."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- (figures/\S+\.md) -->\n(.*?)<!-- end -->", README, re.DOTALL))


def test_the_headline_is_there() -> None:
    assert "figures/mnist/table_headline.md" in BLOCKS


@pytest.mark.parametrize("name", BLOCKS)
def test_a_table_is_the_committed_one(name: str) -> None:
    made = (ROOT / name).read_text(encoding="utf-8")
    assert BLOCKS[name].strip() == made.strip() != ""


def test_every_file_that_is_linked_is_there() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
