"""Only what is this project's own is written to, replaced and deleted."""

from pathlib import Path

import pandas as pd
import pytest

from ltgate import __main__, figures
from ltgate.errors import UserError


def test_clean_leaves_what_a_link_points_to(home: Path, capsys: pytest.CaptureFixture) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep").write_text("mine")
    (home / "runs").mkdir()
    (home / "runs" / "linked").symlink_to(elsewhere)
    assert __main__.main(["clean", "linked"]) == 2
    assert "is a link to" in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["keep"]


def test_a_linked_folder_of_figures_is_not_followed(home: Path) -> None:
    (home / "elsewhere").mkdir()
    (home / "figures").symlink_to(home / "elsewhere")
    with pytest.raises(UserError, match="is a link to"):
        figures.save_table(pd.DataFrame({"a": [1]}), home / "figures", "table_a")
    assert not list((home / "elsewhere").iterdir())
