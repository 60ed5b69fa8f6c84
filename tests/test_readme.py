"""README.md and ARTIFACT.md: committed numbers, commands that parse, code blocks of their size."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from ltgate import __main__, paths
from ltgate.params import Params
from ltgate.runner import claims, plan

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARTIFACT = (ROOT / "ARTIFACT.md").read_text(encoding="utf-8")
PAGES = {
    "README.md": README,
    "ARTIFACT.md": ARTIFACT,
    "params/README.md": (ROOT / "params/README.md").read_text(encoding="utf-8"),
}
BLOCKS = dict(re.findall(r"<!-- (figures/\S+\.md) -->\n(.*?)<!-- end -->", README, re.DOTALL))
PROGRAMS = r"(?:make|(?:LTGATE_\w+=\S+ )?(?:\.venv/bin/)?(?:python -m|jupyter|papermill))\b"
COMMANDS = sorted(
    {
        (page, command)
        for page, text in PAGES.items()
        for command in re.findall(rf"`({PROGRAMS}[^`\n]*)`|^({PROGRAMS}.*)$", text, re.MULTILINE)
        for command in command
        if command
    }
)
EXAMPLES = {"mine.yaml"}  # files that the text makes up


def test_the_headline_is_there() -> None:
    assert "figures/mnist/table_headline.md" in BLOCKS


@pytest.mark.parametrize("name", BLOCKS)
def test_a_table_is_the_committed_one(name: str) -> None:
    made = (ROOT / name).read_text(encoding="utf-8")
    assert BLOCKS[name].strip() == made.strip() != ""


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


# ------------------------------------------------------------------------------------ commands
#
# How each kind of command in the texts is tried:
#   make TARGET             the target is in the Makefile; CI runs `make test`
#   python -m ltgate ...    parsed by the command line itself; its files exist and are valid
#   python -m papermill ... the notebook and the parameter file exist; the runner's tests run it
#   python -m pip ...       the extra exists
#   jupyter lab notebooks   tests/test_jupyterlab.py, in a browser


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20
    assert {command.split()[0] for _, command in COMMANDS} >= {"make", "python"}


@pytest.mark.parametrize(
    ("page", "command"), [(page, part) for page, line in COMMANDS for part in line.split(" && ")]
)
def test_a_command_is_one(page: str, command: str) -> None:
    words = [word for word in shlex.split(command, comments=True) if "LTGATE_" not in word]
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
    elif program.endswith("jupyter"):
        assert rest == ["lab", "notebooks"] and (ROOT / "notebooks").is_dir()
    elif rest[1] == "ltgate":
        options = __main__._parser().parse_args(rest[2:])
        assert options.action
        files = [file for file in getattr(options, "files", []) if file not in EXAMPLES]
        names = [Params.load(ROOT / file).name for file in files]
        assert len(set(names)) == len(names), "runs of one name need a command each"
        if hasattr(options, "only"):
            plan.select(options.only)
        if rest[2] == "grid":
            assert (paths.params() / "grids" / f"{options.file}.yaml").is_file()
    elif rest[1] == "papermill":
        for word in rest[2:]:
            if re.match("(notebooks|params)/", word):
                assert (ROOT / word).is_file()
    elif rest[1] == "pip":
        extra = re.search(r"\[(\w+)\]", command)[1]
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()
    else:
        assert rest[1] in ("pytest", "ruff"), command


# ------------------------------------------------------------------------------------ code


def blocks(language: str) -> list[str]:
    section = README.split("## Bring your own")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


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
