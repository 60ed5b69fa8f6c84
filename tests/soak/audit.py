"""Known vulnerabilities (pip-audit) and licences (pip-licenses) of everything that is installed.

Tools of others; where pip-audit cannot reach its database the row says so. Licences go to
``licences.csv`` beside this file; those that their name leaves open have been read, see
``licences_read.csv``.
"""

import csv
import io
import json
import re
import subprocess
import sys
from fnmatch import fnmatch

from ltgate import files
from soak import record
from soak.record import Failed, case

COMMAND = "python tests/soak audit"
# Licences that allow use beside MIT code, by a piece of their name.
COMPATIBLE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|LGPL|Lesser|Zlib|zlib|HPND|CMU|"
    r"Unlicense|Public Domain|CC0|0BSD|NVIDIA|Boost|3-Clause|OFL|Historical",
    re.I,
)


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """Both reports."""
    with case("dependencies: known vulnerabilities", COMMAND) as row:
        command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner=off"]
        told = subprocess.run(
            [*command, "--skip-editable", "--timeout", "15"], capture_output=True, text=True,
            check=False, timeout=900,
        )  # fmt: skip
        try:
            packages = json.loads(told.stdout)["dependencies"]
        except (ValueError, KeyError):
            reason = (told.stderr.strip().splitlines() or ["no answer"])[-1][:160]
            row["tried"], row["outcome"] = "0 packages", f"not audited: {reason}"
        else:
            asked = [p for p in packages if "skip_reason" not in p]
            bad = [p for p in asked if p.get("vulns")]
            named = ", ".join(f"{p['name']} {p['version']} ({p['vulns'][0]['id']})" for p in bad)
            row["tried"] = f"{len(asked)} of {len(packages)} packages"
            row["outcome"] = f"{len(bad)} with a known vulnerability" + (
                f": {named}" if bad else ""
            )
            if not asked:
                row["outcome"] = f"database not reached: {packages[0]['skip_reason'][:60]}..."
    with case("dependencies: licences", COMMAND) as row:
        command = [sys.executable, "-m", "piplicenses", "--format", "csv", "--from", "mixed"]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if told.returncode:
            raise Failed(told.stderr.strip()[-200:])
        found = list(csv.DictReader(io.StringIO(told.stdout)))
        if record.RECORDING:
            with files.atomic(record.FOLDER / "licences.csv") as temporary:
                temporary.write_text(told.stdout, encoding="utf-8")
        with open(record.FOLDER / "licences_read.csv", newline="", encoding="utf-8") as file:
            read = [line["package"] for line in csv.DictReader(file)]
        other = [p for p in found if not COMPATIBLE.search(p["License"])]
        known = [p for p in other if any(fnmatch(p["Name"], pattern) for pattern in read)]
        named = ", ".join(f"{p['Name']} ({p['License']})" for p in other if p not in known)
        row["tried"] = f"{len(found)} packages"
        row["outcome"] = (
            f"{len(found) - len(other)} compatible with MIT by name (tests/soak/licences.csv), "
            f"{len(known)} read, no obstacle (licences_read.csv)"
            + (f"; to look at: {named}" if named else "")
        )
