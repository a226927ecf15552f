#!/usr/bin/env python3
"""Writes the tables of docs/portability.md from results/test-ops/*.json, and with --check only compares."""

import json
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/portability.md"
BEGIN, END = "<!-- tables: scripts/portability.py -->", "<!-- end of tables -->"
HEAD = ["result", "adapter, driver", "backend", "subgroup", "f16", "passed", "failed", "skipped", "expected fail",
        "largest NMSE", "made on, by"]


def counts(cases):
    """Passed, failed (whatever was not expected), skipped, expected to fail."""
    by = Counter(case["status"] for case in cases)
    passed, skipped, expected = by["Pass"], by["Skip"], by["ExpectedFail"]
    return passed, sum(by.values()) - passed - skipped - expected, skipped, expected


def driver(name, report):
    adapter, caps = report["adapter"], report["caps"]
    sizes = caps["subgroups"]
    if sizes and sizes[0] == sizes[1]:
        sizes = sizes[:1]
    worst = max(report["cases"], key=lambda case: case["nmse"] or 0)
    return [
        name,
        f"{adapter['name']}, {adapter['driver']} {adapter['driver_info']}".strip(),
        adapter["backend"],
        "–".join(map(str, sizes)) if sizes else "no",
        "yes" if caps["f16"] else "no",
        *counts(report["cases"]),
        f"{worst['nmse'] or 0:.0e} {worst['kernel']}",
        f"{report['time'][:10]}, {report['tool'].removeprefix('wgquant ')}",
    ]


def cell(cases):
    passed, failed, skipped, expected = counts(cases)
    if not cases:
        return ""
    words = [f"**{failed} failed**"] if failed else []
    words += [f"{expected} expected to fail"] if expected else []
    if passed or words:
        words.insert(0, str(passed))
    return ", ".join(words) or "–"


def matrix(reports):
    """A line for each kernel and variant, a column for each driver."""
    rows = {}
    for name, report in reports.items():
        for case in report["cases"]:
            rows.setdefault((case["kernel"], case["variant"]), {}).setdefault(name, []).append(case)
    kernels = sorted(rows, key=lambda row: (row[0], row[1] != "best", row[1]))
    return [[kernel, variant, *(cell(rows[kernel, variant].get(name, [])) for name in reports)] for kernel, variant in kernels]


def table(head, rows):
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in [head, ["---"] * len(head), *rows])


def main():
    files = sorted((ROOT / "results/test-ops").glob("*.json"))
    reports = {path.stem: json.loads(path.read_text()) for path in files}
    tables = table(HEAD, [driver(name, report) for name, report in reports.items()])
    tables += "\nCases that passed, by kernel and variant; `best` is the variant that the adapter gets without being told. "
    tables += "A dash: the adapter cannot run it. Empty: the result is older than the variant.\n\n"
    tables += table(["kernel", "variant", *reports], matrix(reports))
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    new = f"{before}{BEGIN}\n{tables}{END}{rest.split(END)[1]}"
    if "--check" in sys.argv:
        sys.exit("docs/portability.md is not what results/test-ops gives" if new != page else 0)
    PAGE.write_text(new)


main()
