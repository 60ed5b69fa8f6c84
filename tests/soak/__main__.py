"""``python tests/soak [case ...]``: run long trials; the table in tests/README.md is rewritten."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parent.parent),
    str(Path(__file__).resolve().parents[2]),
]

CASES = (
    "kills", "disks", "inputs", "together", "memory", "repeat", "grids", "lava", "mutants", "audit",
)  # fmt: skip


def main() -> None:
    """Run the named cases, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(CASES))
    parser.add_argument("--scale", type=float, default=1.0, help="times as many trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a case, by a piece of its name")
    parser.add_argument("--no-record", action="store_true", help="leave tests/README.md as it is")
    options = parser.parse_args()
    record = import_module("soak.record")
    record.RECORDING = not options.no_record
    for name in options.cases or CASES:
        if name not in CASES:
            parser.error(f"no case {name!r}; there are {', '.join(CASES)}")
        import_module(f"soak.{name}").run(options.scale, options.seed, options.only)


if __name__ == "__main__":
    main()
