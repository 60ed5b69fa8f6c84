"""The command ``ltgate``, or ``python -m ltgate``; without arguments it lists what it can do.

What a command needs is imported when it runs: most of it takes longer than ``--help`` may. Exit
status: 0 done, 1 a notebook or a trial failed, 2 the request is wrong (nothing was run),
130 interrupted, 141 whoever read the output has gone.
"""

import argparse
import importlib.util
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltgate import __version__, paths
from ltgate.errors import Failed, UserError

if TYPE_CHECKING:
    from ltgate.params import Params

# Extra of pyproject.toml -> what a command that wants it imports of it
EXTRAS = {"cluster": ("dask", "distributed"), "notebooks": ("ipykernel", "nbconvert", "papermill")}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may know ASCII only
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            return _obey(["--help"] if given in ([], ["help"]) else given)
        finally:
            print(end="", flush=True)
    except BrokenPipeError:  # whoever read the output has gone, and what is left of it goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _obey(given: list[str]) -> int:
    """Run the command of these arguments; its exit status, after a line that tells what failed."""
    options = parser().parse_args(given)
    try:
        _check_installed(options.extras)
        options.action(options)
    except UserError as error:
        status, text = 2, str(error)
    except Failed as error:
        status, text = 1, str(error)
    except MemoryError:
        status, text = 2, "out of memory; lower batch_size, chunk_images or train_images"
    except KeyboardInterrupt:
        status, text = 130, "interrupted; the same command goes on from here"
    else:
        return 0
    print(f"error: {text}", file=sys.stderr)
    return status


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments; its name is what was typed."""
    typed = Path(sys.argv[0]).name
    module = f"{Path(sys.executable).name} -m ltgate"
    made = argparse.ArgumentParser(
        prog=module if typed == "__main__.py" else typed,
        description="Run, report and compare the experiments. COMMAND --help tells the options.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=14, width=100),
    )
    made.add_argument("--version", action="version", version=f"ltgate {__version__}")
    actions = made.add_subparsers(required=True, metavar="command")
    for name, (action, arguments, extras) in COMMANDS.items():
        one = actions.add_parser(name, help=action.__doc__.split("\n")[0].rstrip("."))
        one.set_defaults(action=action, extras=extras)
        for names, told in arguments:
            one.add_argument(*names, **told)
    return made


def _check_installed(extras: Sequence[str]) -> None:
    missing = {
        extra: module
        for extra in extras
        for module in EXTRAS[extra]
        if importlib.util.find_spec(module) is None
    }
    if missing:
        names, wanted = ", ".join(missing.values()), ",".join(missing)
        raise UserError(f"not installed: {names}; pip install 'ltgate[{wanted}]' brings it")


# Name -> function, its arguments, the extras it wants.
COMMANDS: dict[str, tuple[Callable, tuple, tuple[str, ...]]] = {}


def argument(*names: str, **told: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """An argument of a command, as argparse takes it."""
    return names, told


def command(*arguments: tuple, extras: tuple[str, ...] = ()) -> Callable:
    """Make the function ``_name`` the command ``name``; its docstring says what it does."""

    def enter(action: Callable) -> Callable:
        COMMANDS[action.__name__[1:]] = (action, arguments, extras)
        return action

    return enter


NAME = argument("name", help="the run's name")
SETTINGS = argument(
    "--set", action="extend", nargs="+", default=[], metavar="name=value",
    help="parameters that win over the files; values are YAML",
)  # fmt: skip


def parameter_file(default: str, more: str = "") -> tuple:
    """The argument of a command that runs one parameter file."""
    told = f"default: params/{default}.yaml{more}"
    return argument("file", nargs="?", default=default, metavar="params.yaml", help=told)


@command(
    argument("files", nargs="+", metavar="params.yaml", help="one run per file, or name of one"),
    argument("--only", default="", metavar="02,03", help="numbers of the notebooks to run"),
    SETTINGS,
    argument("--seeds", default="", metavar="0,1,2", help="the same as --set seeds=[0,1,2]"),
    argument("--out", default="", metavar="FOLDER", help="where runs/ and figures/ go"),
    extras=("cluster", "notebooks"),
)
def _run(options: argparse.Namespace) -> None:
    """Run the numbered notebooks, skipping what has not changed."""
    from ltgate.runner import execute

    seeds = [f"seeds=[{options.seeds}]"] if options.seeds else []
    overrides = execute.parse_overrides([*options.set, *seeds])
    execute.run(options.files, options.only, overrides, options.out)


@command(argument("file", metavar="grid.yaml", help="or a name"), SETTINGS, extras=("cluster",))
def _grid(options: argparse.Namespace) -> None:
    """Run a grid of configurations; tables, figures, best.yaml in figures/<name>."""
    from ltgate.grid import Grid, report
    from ltgate.runner import execute, run_record

    grid = Grid.load(options.file, **execute.parse_overrides(options.set))
    if grid.base.cluster in ("none", "local"):  # other machines have their own devices and images
        execute.check(grid.base)
    with run_record.timed(grid.base, "grid"):
        for text in report(grid):
            print(text, flush=True)


@command(parameter_file("bench", " (minutes, MNIST)"), SETTINGS, extras=("cluster",))
def _bench(options: argparse.Namespace) -> None:
    """Measure speed and memory; tables in figures/<name>."""
    from ltgate.runner import run_record

    params = _checked(options)
    from ltgate import perf  # after the check of the parameters: it loads everything

    with run_record.timed(params, "bench"):
        for table in perf.write(perf.Bench(params)):
            print(table)


@command(parameter_file("robustness"), SETTINGS)
def _robustness(options: argparse.Namespace) -> None:
    """Train at one frame rate, test at others; table in figures/<name>."""
    from ltgate.runner import run_record

    params = _checked(options)
    from ltgate import figures, robustness  # after the check of the parameters

    with run_record.timed(params, "robustness"):
        robustness.run(params)
        table, folder = robustness.table(params), paths.figures(params.name)
        figures.save_figure(figures.robustness(table), folder, "robustness")
        figures.save_table(table, folder, "table_robustness")
        kept = figures.save_table(robustness.table_kept(params), folder, "table_kept")
    print(kept.to_string(index=False))


@command()
def _list(options: argparse.Namespace) -> None:
    """List notebooks, parameter files and runs."""
    from ltgate.runner import jupyter

    lines = {notebook.stem: jupyter.title(notebook) for notebook in jupyter.select()}
    for file in sorted(paths.params().rglob("*.yaml")):
        first = file.read_text(encoding="utf-8").split("\n", 1)[0]
        lines[str(file.relative_to(paths.params().parent))] = first.lstrip("# ")
    for folder in sorted(path for path in (paths.root() / "runs").glob("*") if path.is_dir()):
        lines[f"runs/{folder.name}"] = _status(folder.name)
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}")
    print(f"notebooks and params are in {paths.published()}, runs in {paths.root()}")


@command(argument("words", nargs="*", help="only those with all these words in section or text"))
def _parameters(options: argparse.Namespace) -> None:
    """Tell every parameter and what it allows, in sections."""
    from ltgate.params import Params

    sections: dict[str, list[str]] = {}
    for name, text in Params.help().items():
        section = (Params.groups[name].__doc__ or "").split(".")[0]
        line = f"{name}: {text}"
        if all(word.lower() in f"{section} {line}".lower() for word in options.words):
            sections.setdefault(section, [section, "-" * len(section)]).append(line)
    if not sections:
        raise UserError(f"parameters: none has {' and '.join(map(repr, options.words))}")
    print("\n\n".join("\n".join(lines) for lines in sections.values()))


@command(argument("name", help="a run's, or a folder's in figures/"), extras=("notebooks",))
def _report(options: argparse.Namespace) -> None:
    """Make one HTML page of a run: claims, figures, tables, commands, time, disk."""
    from ltgate.runner.report import report

    print(report(options.name))


@command(argument("one", help="a run's name"), argument("other", help="another one's"))
def _compare(options: argparse.Namespace) -> None:
    """Show where two runs differ: parameters, tables."""
    from ltgate.runner import compare

    print(compare.text(compare.compare(options.one, options.other)))


@command(
    argument("checkpoint", help="runs/NAME/checkpoints/TRIAL/task<i>.safetensors"),
    argument("file", metavar="FILE.nir"),
    argument("--task", type=int, default=0, help="whose clock it gets; default: 0"),
)
def _export(options: argparse.Namespace) -> None:
    """Write a trained network (task<i>.safetensors) as a NIR file."""
    from ltgate import exchange

    print(exchange.export(options.checkpoint, options.file, options.task))


@command(NAME)
def _clean(options: argparse.Namespace) -> None:
    """Delete a run's folder (its figures are kept)."""
    from ltgate.runner import execute

    print(f"deleted {execute.clean(options.name)}")


@command(NAME)
def _expected(options: argparse.Namespace) -> None:
    """Copy a run's measured time and disk space into params/expected.csv."""
    from ltgate.runner import claims

    print(claims.record(options.name))


def _checked(options: argparse.Namespace) -> "Params":
    """The parameters that are asked for, with nothing wrong that can be told before any work."""
    from ltgate.params import Params
    from ltgate.runner import execute

    params = Params.load(options.file, **execute.parse_overrides(options.set))
    execute.check(params)
    return params


def _status(name: str) -> str:
    """A run in a line: what is done, how long it took, its disk space."""
    from ltgate.runner import claims, run_record

    notebooks = run_record.read(name).get("notebooks", {})
    done = [entry for entry in notebooks.values() if entry.get("status") == "done"]
    size = sum(size for _, size in run_record.snapshot(paths.run(name)).values()) / 1e6
    took = claims.duration(sum(entry["seconds"] for entry in done))
    told = f"{len(done)} of {len(notebooks)} notebooks done in {took}, " if notebooks else ""
    return f"{told}{size:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
