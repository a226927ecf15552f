#!/usr/bin/env python3
"""Writes the table of docs/portability.md from results/doctor/*.json, and with --check only compares."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/portability.md"
BEGIN, END = "<!-- table: scripts/portability.py -->", "<!-- end of table -->"
HEAD = ["result", "adapter, driver", "backend", "subgroup", "f16", "passed", "failed", "largest NMSE", "codes off by one"]


def row(path):
    report = json.loads(path.read_text())
    # What the adapter has, not what was left of it: the result's name tells a mask.
    caps = (report["details"] or report)["caps"]
    sizes = caps["subgroups"]
    if sizes and sizes[0] == sizes[1]:
        sizes = sizes[:1]
    worst = max(report["cases"], key=lambda case: case["nmse"])
    return [
        path.stem,
        f"{report['adapter']}, {report['driver']}",
        report["backend"],
        "–".join(map(str, sizes)) if sizes else "no",
        "yes" if caps["f16"] else "no",
        report["passed"],
        report["failed"],
        f"{worst['nmse']:.0e} {worst['kernel']}",
        sum(case["ties"] for case in report["cases"]),
    ]


def main():
    rows = [row(path) for path in sorted((ROOT / "results/doctor").glob("*.json"))]
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    table = "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    new = f"{before}{BEGIN}\n{table}{END}{after}"
    if "--check" in sys.argv:
        sys.exit("docs/portability.md is not what results/doctor gives" if new != page else 0)
    PAGE.write_text(new)


main()
