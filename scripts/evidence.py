"""The tables of docs/method.md, drawn from the rows in docs/evidence: ``python scripts/evidence.py``.

A table stands between two marks, of which the first says what is in it, one strategy a line, with the words that the
page calls it by::

    <!-- table bal-photos
    random
    /high_first/even/least_confidence = the paper's order
    -->
    <!-- end of table -->
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from model.curves import CONTROL, Point, Row, summarize  # noqa: E402 - the sources are no installed package

PAGE, EVIDENCE = ROOT / "docs" / "method.md", ROOT / "docs" / "evidence"
MARK = re.compile(r"(<!-- table (?P<name>\S+)\n(?P<lines>.*?)-->\n).*?(<!-- end of table -->)", re.DOTALL)


def page(text: str) -> str:
    """Return the page with every table drawn anew; raise ValueError for a strategy or rows that are not there."""
    return MARK.sub(lambda found: f"{found[1]}{_table(found['name'], found['lines'])}{found[4]}", text)


def _table(name: str, lines: str) -> str:
    rows: list[Row] = json.loads((EVIDENCE / f"{name}.json").read_text())
    wanted = dict(_strategy(line) for line in lines.splitlines())
    missing = wanted.keys() - {row["strategy"] for row in rows}
    if missing:
        raise ValueError(f"{name} has no rows of {', '.join(sorted(missing))}")
    points = summarize([row for row in rows if row["strategy"] in wanted.keys() | {CONTROL}])
    rounds = sorted({point.round for point in points})
    labels = [f"{next(point for point in points if point.round == number).labels:.0f}" for number in rounds]
    drawn = [f"| strategy | {' | '.join([f'{labels[0]} labels', *labels[1:]])} |", "| --- |" + " --- |" * len(rounds)]
    for strategy, words in wanted.items():
        own = {point.round: point for point in points if point.strategy == strategy}
        cells = [_cell(own[number]) if number in own else "" for number in rounds]
        drawn.append(f"| `{strategy}`{f' ({words})' if words else ''} | {' | '.join(cells)} |")
    seeds = sorted({row["seed"] for row in rows if row["strategy"] in wanted})
    fewest = min(point.seeds for point in points if point.strategy in wanted)
    note = f"Seeds {seeds[0]} to {seeds[-1]}" + (f"; at least {fewest} of them in each cell" * (fewest < len(seeds)))
    return "\n".join([*drawn, "", f"{note}.", ""])


def _strategy(line: str) -> tuple[str, str]:
    name, _, words = line.partition("=")
    return name.strip(), words.strip()


def _cell(point: Point) -> str:
    """Return the mean accuracy, and the mean and standard deviation of the paired difference to random."""
    mean = f"{100 * point.mean:.1f}"
    if point.strategy == CONTROL or point.difference is None:
        return mean
    spread = "" if point.difference_sd is None else f" ± {100 * point.difference_sd:.1f}"
    return f"{mean} ({100 * point.difference:+.1f}{spread})"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
