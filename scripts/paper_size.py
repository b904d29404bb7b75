"""Run PT4AL at its paper's size, in pieces: ``python scripts/paper_size.py --out FOLDER``.

CIFAR-10: 50,000 images, ten rounds of 1,000, ResNet-18, 200 epochs; random images, the paper, its released code, and
our default beside them. Each call works for at most ``--seconds`` and is then stopped, whatever it does; the next call
goes on from the last epoch. It ends with status 3 while there is more to do, and with 0 and the table when all is
done::

    until python scripts/paper_size.py --out paper-size; do [ $? -eq 3 ] || break; done

About 11 million image passes a strategy and seed: for a GPU. ``--pool 500`` tries the same on 500 images with rounds of
10.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from model.lab.arguments import positive  # noqa: E402 - the sources are no installed package
from model.lab.learning_curves import RoundRow, summarize, table  # noqa: E402

MORE = 3  # exit status: call again
POOL, ROUNDS, ASKED = 50_000, 10, 50  # images; rounds; a round asks a fiftieth of the pool
# Name -> arguments of model.simulate. Strategies of one run share network and recipe.
RUNS = {
    "networks": [
        "--encoder", "none", "--network", "resnet18", "--recipe", "paper", "--init", "previous", "--strategies",
        "random,rotation/high_first/even/least_confidence,rotation/released_code/even/released_confidence",
    ],
    "encoder": ["--learner", "linear", "--strategies", "random,default"],
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Go on with the first run that is not finished and return the exit status."""
    given = _parser().parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + given.seconds
    for name in given.runs.split(","):
        status = _run(name, given, ends - time.monotonic())
        if status:
            return status
    for name in given.runs.split(","):
        rows: list[RoundRow] = json.loads(_results(given.out, name).read_text())
        print(f"{name}\n{table(summarize(rows))}\n")
    return 0


def _run(name: str, given: argparse.Namespace, seconds: float) -> int:
    """Run ``model.simulate`` for so many seconds; return MORE where it was stopped, else its exit status."""
    command = [
        sys.executable, "-m", "model.simulate", "--data", given.data, "--pool", str(given.pool), "--rounds",
        str(given.rounds), "--k", str(max(given.pool // ASKED, 1)), "--seeds", str(given.seeds),
        "--device", given.device, "--json", str(_results(given.out, name).resolve()), *RUNS[name],
    ]  # fmt: skip
    for option in ("test", "pretext_epochs"):
        if getattr(given, option) is not None:
            command += [f"--{option.replace('_', '-')}", str(getattr(given, option))]
    if given.epochs is not None and name == "networks":  # the linear head has none
        command += ["--epochs", str(given.epochs)]
    try:
        # What it writes is whole or absent, so that it may be stopped at any time.
        return subprocess.run(command, cwd=ROOT, timeout=max(seconds, 0.0), stdout=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        return MORE


def _results(folder: Path, name: str) -> Path:
    return folder / f"paper-size-{name}.json"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the results and of what a stopped call continues from")
    add("--seconds", type=positive, default=540, help="of work before this call is stopped")
    add("--runs", default=",".join(RUNS), help=f"comma list of {', '.join(RUNS)}")
    add("--data", default="cifar10")
    add("--pool", type=positive, default=POOL)
    add("--rounds", type=positive, default=ROUNDS)
    add("--test", type=positive, help="test images (default: all)")
    add("--seeds", type=positive, default=1)
    add("--epochs", type=positive, help="of the main model (default: 200)")
    add("--pretext-epochs", type=positive, help="(default: 15)")
    add("--device", default="auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
