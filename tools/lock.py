"""Make requirements/ anew from pyproject.toml: ``make lock``, or ``make lock upgrade=1``.

Exact versions with the hashes of their files, for every platform on Python 3.12 to 3.14; no address
of an index. Versions that requirements/ has already are kept unless ``upgrade`` is asked for.

===========  =====================================================================================
default.txt  the library with the extras of ``DEFAULT``: what ``make setup`` installs
torch.txt    torch and CUDA's libraries, which a CPU build of torch does without
peers.txt    what this extra needs besides; browser.txt, fuzz.txt and gpu.txt likewise
lava.txt     Lava, which has to be installed without the bounds of its metadata
===========  =====================================================================================
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ("notebooks", "cluster", "loihi", "test", "site")
EXTRAS = ("peers", "browser", "fuzz", "gpu")
LAVA = "lava-nc==0.10.0"
TORCH = re.compile(r"torch|triton|cuda-[a-z]+|nvidia-(?!ml-py)[a-z0-9-]+")
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==.*(?:\n .*)*\n", re.MULTILINE)


def resolve(*arguments: str, python: str = "3.12", keep: str = "") -> dict[str, str]:
    """Requirement lines, hashes included, by package name; ``keep``: lines whose versions stay."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "requirements.txt"
        output.write_text(keep)
        command = [sys.executable, "-m", "uv", "pip", "compile", *arguments, "--quiet"]
        command += ["--universal", "--python-version", python, "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "--output-file", str(output)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        return {match[1]: match[0] for match in ENTRY.finditer(output.read_text())}


def lock(folder: Path, upgrade: bool = False) -> None:
    """Write the files into ``folder``."""
    folder.mkdir(exist_ok=True)
    before = (
        "" if upgrade else "".join(f.read_text() for f in folder.glob("*.txt") if f.stem != "lava")
    )
    every = closure(*DEFAULT, *EXTRAS, keep=before)
    usual = closure(*DEFAULT, keep="".join(every.values()))
    torch = {name for name in usual if TORCH.fullmatch(name)}
    files = {
        "default": usual.keys() - torch,
        "torch": torch,
        **{
            extra: closure(*DEFAULT, extra, keep="".join(every.values())).keys() - usual.keys()
            for extra in EXTRAS
        },
    }
    for name, packages in files.items():
        (folder / f"{name}.txt").write_text("".join(every[p] for p in every if p in packages))
    with tempfile.NamedTemporaryFile("w", suffix=".in") as wanted:
        wanted.write(LAVA)
        wanted.flush()
        lava = resolve(wanted.name, "--no-deps", python="3.10")
    (folder / "lava.txt").write_text("".join(lava.values()))


def closure(*extras: str, keep: str) -> dict[str, str]:
    """What pyproject.toml with ``extras`` needs, transitive packages too."""
    return resolve("pyproject.toml", *(f"--extra={name}" for name in extras), keep=keep)


if __name__ == "__main__":
    lock(ROOT / "requirements", upgrade="--upgrade" in sys.argv[1:])
