"""The site builds from the repository, offline, without a dead link."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_link_and_picture_of_its_pages_is_there(tmp_path: Path) -> None:
    """As ``make site``, but for the modules of the library, which take a minute."""
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-t", "pages"]
    command += ["-c", "docs", ".", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "notebooks/07_timescales.html").read_text(encoding="utf-8")
    assert "<math " in page and not re.search("<(script|link)[^>]*https?:", page)  # no network
