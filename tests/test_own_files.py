"""Only what is this project's own is written to, replaced and deleted."""

from pathlib import Path

import pytest

from ltgate import __main__


def test_clean_leaves_what_a_link_points_to(home: Path, capsys: pytest.CaptureFixture) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep").write_text("mine")
    (home / "runs").mkdir()
    (home / "runs" / "linked").symlink_to(elsewhere)
    assert __main__.main(["clean", "linked"]) == 2
    assert "is a link to" in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["keep"]
