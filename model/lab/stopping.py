"""What each stopping rule would have saved and cost: ``python -m model.stopping results.json ...``.

The results are those of ``python -m model.simulate ... --holdout 0.1``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from model.errors import BadInput, ModelError
from model.lab.learning_curves import RoundRow
from model.lab.stopping_rules import ForecastErrors, RuleResult, cover, judge, runs_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m model.stopping", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of model.simulate, run with --holdout")
    given = parser.parse_args(arguments)
    try:
        for path in given.results:
            runs = runs_of(_read(path))
            print(f"\n{path.name}: {len(runs)} runs of up to {max(run[-1]['labels'] for run in runs)} labels\n")
            print(_table(judge(runs)))
            print(_forecast_text(cover(runs)))
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _read(path: Path) -> list[RoundRow]:
    try:
        rows: list[RoundRow] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no results file: {error}") from error
    if not rows:
        raise BadInput(f"{path} has no results yet")
    return rows


def _table(results: Sequence[RuleResult]) -> str:
    lines = [
        "| rule | runs ended early | labels saved | accuracy given up | in the worst run |",
        "| --- | --- | --- | --- | --- |",
    ]
    for result in results:
        lines.append(
            f"| {result.rule} | {result.ended} of {result.runs} | {100 * result.saved:.0f}% "
            f"| {100 * result.cost:+.1f} points | {100 * result.worst:+.1f} points |"
        )
    return "\n".join(lines)


def _forecast_text(errors: ForecastErrors) -> str:
    return (
        f"\nForecast of the next round, {errors.rounds} times: {100 * errors.inside:.0f}% of the real gains lie inside "
        f"the 95% interval, which is {100 * errors.width:.1f} points wide; expected minus real gain is "
        f"{100 * errors.error:+.2f} points on average, {100 * errors.absolute:.2f} without the sign."
    )


if __name__ == "__main__":
    sys.exit(main())
