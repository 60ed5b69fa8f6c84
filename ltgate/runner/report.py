"""A run as one page: claims, figures and tables with the command, time and disk space of each."""

from collections import defaultdict
from pathlib import Path

import pandas as pd

from ltgate import figures, paths
from ltgate.errors import UserError
from ltgate.params import Params
from ltgate.runner import claims, expected, html, plan, run_record
from ltgate.runner.run_record import Record

LONGEST = 40  # rows of a table that are shown; the file has them all


def report(name: str, out: str | Path = "") -> Path:
    """Write ``runs/<name>/report.html``, or ``out``, from ``run.json`` and ``figures/<name>``."""
    folder, record = paths.figures(Params(name=name).name), run_record.read(name)
    products = sorted(
        [*folder.glob("*.png"), *folder.glob("table_*.csv")], key=lambda path: path.stem
    )
    if not products:
        raise UserError(f"{folder}: there are no figures or tables of a run {name!r}")
    texts = [_head(name, record), _claims(name)]
    for source, paths_ in _by_source(name, record, products).items():
        texts.append(_source(name, source, record))
        texts += [_product(path) for path in paths_]
    return html.write(
        Path(out) if out else paths.run(name) / "report.html",
        f"ltgate: {name}",
        [text for text in texts if text],
    )


def _head(name: str, record: Record) -> str:
    if not record:
        return f"# {name}\n\nFigures and tables of `figures/{name}`; the run itself is not here."
    defaults = Params().model_dump()
    changed = [
        {"parameter": key, "value": str(value), "default": str(defaults.get(key))}
        for key, value in record["parameters"].items()
        if value != defaults.get(key)
    ]
    machine = record["machine"]
    facts = {
        "configuration": record["hash"],
        "seeds": " ".join(map(str, record["seeds"])),
        "version": f"{record['version']}, commit {record['commit']}",
        "machine": f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"GPU {machine['gpu']}",
        "libraries": ", ".join(f"{key} {value}" for key, value in record["libraries"].items()),
    }
    lines = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    return (
        f"# {name}\n\n{lines}\n\n## Parameters that are not the default\n\n"
        f"{html.table(pd.DataFrame(changed))}"
    )


def _claims(name: str) -> str:
    found = claims.claims(name)
    if not found:
        return ""
    rows = pd.DataFrame(
        {
            "claim": [claim.claim for claim in found],
            "whose": [claim.source for claim in found],
            "holds": [claim.holds for claim in found],
            "shown by": [", ".join(claim.files) for claim in found],
        }
    )
    return f"## Claims\n\n{html.table(rows)}"


def _by_source(name: str, record: Record, products: list[Path]) -> dict[str, list[Path]]:
    """The products of each notebook in its order; '' for those of none."""
    writer = {
        Path(output).name: notebook
        for notebook, entry in record.get("notebooks", {}).items()
        for output in entry.get("outputs", [])
        if output.startswith(f"figures/{name}/")
    }
    groups = defaultdict(list)
    for path in products:
        groups[writer.get(path.name, "")].append(path)
    return dict(sorted(groups.items(), key=lambda item: (item[0] == "", item[0])))


def _source(name: str, notebook: str, record: Record) -> str:
    """Heading of what a notebook, or another command, has made: command, time, disk space."""
    if notebook:
        entry = record["notebooks"][notebook]
        file = record.get("file", f"params/{name}.yaml")
        command = f"python -m ltgate run {file} --only {notebook[:2]}"
        title = plan.title(paths.notebooks() / f"{notebook}.ipynb")
        took = _cost("This time", entry.get("seconds"), entry.get("megabytes"))
        seconds, megabytes, _ = expected.lookup(name, notebook)
    else:
        found = dict.fromkeys(claim.command for claim in claims.claims(name))
        command, title, took = "; ".join(found), "Figures and tables", ""
        seconds, megabytes = expected.total(name)
    told = f"Regenerate: `{command}`. " if command else ""
    return f"## {title}\n\n{told}{took}{_cost('From scratch', seconds, megabytes)}"


def _cost(when: str, seconds: float | None, megabytes: float | None) -> str:
    if seconds is None:
        return f"{when}: not measured. "
    return f"{when}: {plan.duration(seconds)}, {megabytes or 0:.1f} MB written. "


def _product(path: Path) -> str:
    shown = f"`figures/{path.parent.name}/{path.name}`"
    if path.suffix == ".png":
        caption = figure_caption(path.stem)
        return f"**{path.stem}** {caption} {shown}\n\n{html.image(path, caption)}"
    frame = pd.read_csv(path)
    more = f" The first {LONGEST} of {len(frame)} rows." * (len(frame) > LONGEST)
    body = figures.show(frame.head(LONGEST)).html()
    return f"**{path.stem}** {claims.table_caption(path.stem)} {shown}{more}\n\n{body}"


def figure_caption(name: str) -> str:
    """What a figure shows: the first line of its producer's docstring.

    ``learning_curves_fast`` is by ``learning_curves``; an unknown figure has ''.
    """
    known = {producer.__name__: producer.__doc__ or "" for producer in figures.FIGURES}
    found = max((producer for producer in known if name.startswith(producer)), default="", key=len)
    return known.get(found, "").split("\n")[0]
