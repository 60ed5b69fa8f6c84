"""The command ``ltgate``, or ``python -m ltgate``; without arguments it lists what it can do.

What a command needs is imported when it runs: most of it takes longer than ``--help`` may. Exit
status: 0 done, 1 a notebook or a trial failed, 2 the request is wrong (nothing was run),
130 interrupted.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltgate import __version__, paths
from ltgate.errors import Failed, UserError

# Extra of pyproject.toml -> what a command that wants it imports of it
EXTRAS = {"cluster": ("dask", "distributed"), "notebooks": ("ipykernel", "nbconvert", "papermill")}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(["--help"] if given in ([], ["help"]) else given)
    try:
        _check_installed(options.extras)
        options.action(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print(
            "error: out of memory; lower batch_size, chunk_images or train_images", file=sys.stderr
        )
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_typed(),
        description="Run, report and compare the experiments. COMMAND --help tells the options.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=14, width=100),
    )
    parser.set_defaults(extras=())
    parser.add_argument("--version", action="version", version=f"ltgate {__version__}")
    actions = parser.add_subparsers(required=True, metavar="command")

    run = actions.add_parser(
        "run", help="run the numbered notebooks, skipping what has not changed"
    )
    run.add_argument(
        "files", nargs="+", metavar="params.yaml", help="one run per file, or per name in params"
    )
    run.add_argument("--only", default="", metavar="02,03", help="numbers of the notebooks to run")
    run.add_argument("--force", action="store_true", help="run also what has not changed")
    settings: dict[str, Any] = {
        "action": "extend",
        "nargs": "+",
        "default": [],
        "metavar": "name=value",
        "help": "parameters that win over the files; values are YAML",
    }
    run.add_argument("--set", **settings)
    run.add_argument("--seeds", default="", metavar="0,1,2", help="the same as --set seeds=[0,1,2]")
    run.add_argument("--out", default="", metavar="FOLDER", help="where runs/ and figures/ go")
    run.set_defaults(action=_run, extras=("cluster", "notebooks"))

    grid = actions.add_parser(
        "grid", help="run a grid of configurations; tables, figures, best.yaml in figures/<name>"
    )
    grid.add_argument("file", metavar="grid.yaml", help="or a name in params/grids")
    grid.add_argument("--set", **settings)
    grid.set_defaults(action=_grid, extras=("cluster",))

    bench = actions.add_parser("bench", help="measure speed and memory; tables in figures/<name>")
    bench.add_argument(
        "file", nargs="?", default="bench", metavar="params.yaml",
        help="default: params/bench.yaml (minutes, MNIST)",
    )  # fmt: skip
    bench.add_argument("--set", **settings)
    bench.set_defaults(action=_bench, extras=("cluster",))

    rates = actions.add_parser(
        "robustness", help="train at one frame rate, test at others; table in figures/<name>"
    )
    rates.add_argument(
        "file", nargs="?", default="robustness", metavar="params.yaml",
        help="default: params/robustness.yaml",
    )  # fmt: skip
    rates.add_argument("--set", **settings)
    rates.set_defaults(action=_robustness)

    listing = actions.add_parser("list", help="list notebooks, parameter files and runs")
    listing.set_defaults(action=_list)

    allowed = actions.add_parser("parameters", help="tell every parameter and what it allows")
    allowed.set_defaults(action=_parameters)

    report = actions.add_parser(
        "report", help="make one HTML page of a run: claims, figures, tables, commands, time, disk"
    )
    report.add_argument("name", help="the run's name, or a folder's in figures/")
    report.add_argument("--out", default="", metavar="FILE", help="default: runs/NAME/report.html")
    report.set_defaults(action=_report, extras=("notebooks",))

    compare = actions.add_parser(
        "compare", help="show where two runs differ: parameters, tables, figures"
    )
    compare.add_argument("one", help="a run's name, or a folder's in figures/")
    compare.add_argument("other", help="another one's")
    compare.add_argument("--out", default="", metavar="FILE", help="write an HTML page instead")
    compare.set_defaults(action=_compare, extras=("notebooks",))

    export = actions.add_parser(
        "export", help="write a trained network (task<i>.safetensors) as a NIR file"
    )
    export.add_argument("checkpoint", help="runs/NAME/checkpoints/TRIAL/task<i>.safetensors")
    export.add_argument("file", metavar="FILE.nir")
    export.add_argument("--task", type=int, default=0, help="whose clock it gets; default: 0")
    export.set_defaults(action=_export)

    clean = actions.add_parser("clean", help="delete a run's folder (its figures are kept)")
    clean.add_argument("name", help="the run's name")
    clean.set_defaults(action=_clean)

    measured = actions.add_parser(
        "expected", help="copy a run's measured time and disk space into params/expected.csv"
    )
    measured.add_argument("name", help="the run's name")
    measured.set_defaults(action=_expected)
    return parser


def _typed() -> str:
    """How this command was called, without its arguments."""
    name = Path(sys.argv[0]).name
    return f"{Path(sys.executable).name} -m ltgate" if name == "__main__.py" else name


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


def _run(options: argparse.Namespace) -> None:
    from ltgate.runner import execute

    seeds = [f"seeds=[{options.seeds}]"] if options.seeds else []
    overrides = execute.parse_overrides([*options.set, *seeds])
    execute.run(options.files, options.only, options.force, overrides, options.out)


def _grid(options: argparse.Namespace) -> None:
    from ltgate.grid.products import report
    from ltgate.grid.spec import Grid
    from ltgate.runner import execute, run_record

    grid = Grid.load(options.file, **execute.parse_overrides(options.set))
    if grid.base.cluster in ("none", "local"):  # other machines have their own devices and images
        execute.check(grid.base)
    with run_record.timed(grid.base, "grid"):
        for text in report(grid):
            print(text, flush=True)


def _bench(options: argparse.Namespace) -> None:
    from ltgate.params import Params
    from ltgate.runner import execute, run_record

    params = Params.load(options.file, **execute.parse_overrides(options.set))
    execute.check(params)
    from ltgate import perf  # after the check of the parameters: it loads everything

    with run_record.timed(params, "bench"):
        for table in perf.write(perf.Bench(params)):
            print(table)


def _robustness(options: argparse.Namespace) -> None:
    from ltgate.params import Params
    from ltgate.runner import execute, run_record

    params = Params.load(options.file, **execute.parse_overrides(options.set))
    execute.check(params)
    from ltgate import figures, robustness  # after the check of the parameters

    with run_record.timed(params, "robustness"):
        robustness.run(params)
        table, folder = robustness.table(params), paths.figures(params.name)
        figures.save_figure(figures.robustness(table), folder, "robustness")
        figures.save_table(table, folder, "table_robustness")
        kept = figures.save_table(robustness.table_kept(params), folder, "table_kept")
    print(kept.to_string(index=False))


def _parameters(options: argparse.Namespace) -> None:
    from ltgate.params import Params

    for name, text in Params.help().items():
        print(f"{name}: {text}")


def _report(options: argparse.Namespace) -> None:
    from ltgate.runner.report import report

    print(report(options.name, options.out))


def _expected(options: argparse.Namespace) -> None:
    from ltgate.runner import claims, expected

    print(expected.record(options.name))
    claims.refresh()


def _export(options: argparse.Namespace) -> None:
    from ltgate import exchange

    print(exchange.export(options.checkpoint, options.file, options.task))


def _compare(options: argparse.Namespace) -> None:
    from ltgate.runner.compare import compare

    comparison = compare(options.one, options.other)
    if options.out:
        print(comparison.write(options.out))
    else:
        print("\n".join(comparison.texts()))


def _clean(options: argparse.Namespace) -> None:
    from ltgate.runner import execute

    print(f"deleted {execute.clean(options.name)}")


def _list(options: argparse.Namespace) -> None:
    from ltgate.runner import plan

    lines = {notebook.stem: plan.title(notebook) for notebook in plan.select()}
    for file in sorted(paths.params().rglob("*.yaml")):
        first = file.read_text(encoding="utf-8").split("\n", 1)[0]
        lines[str(file.relative_to(paths.params().parent))] = first.lstrip("# ")
    for folder in sorted(path for path in (paths.root() / "runs").glob("*") if path.is_dir()):
        lines[f"runs/{folder.name}"] = _status(folder.name)
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}")
    print(f"notebooks and params are in {paths.published()}, runs in {paths.root()}")


def _status(name: str) -> str:
    """A run in a line: what is done, how long it took, its disk space."""
    from ltgate.runner import expected, run_record

    notebooks = run_record.read(name).get("notebooks", {})
    done = [entry for entry in notebooks.values() if entry.get("status") == "done"]
    size = sum(size for _, size in run_record.snapshot(paths.run(name)).values()) / 1e6
    took = expected.duration(sum(entry["seconds"] for entry in done))
    told = f"{len(done)} of {len(notebooks)} notebooks done in {took}, " if notebooks else ""
    return f"{told}{size:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
