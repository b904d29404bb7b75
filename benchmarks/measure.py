"""What a benchmark measures, and the table of it."""

import json
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

Log = Callable[[str], None]
# What a processor multiplies by, best first: PyTorch trains in bf16 where the first two are there.
VECTORS = {"amx_tile": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2"}
NAMED = ("torch", "onnxruntime", "numpy", "scikit-learn", "SQLAlchemy", "redis", "rq", "Flask", "gunicorn")


@dataclass(frozen=True)
class Measure:
    """One line of the table.

    reference: seconds (or the unit) of the other way, None where the budget is absolute. value: what is held against
    the budget: the ratio of both ways, or ours. bound: whether the budget is a floor or a ceiling of ``value``.
    """

    what: str
    unit: str
    ours: float
    value: float
    budget: float | None = None
    bound: Literal["floor", "ceiling"] = "ceiling"
    reference: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the budget is kept; a line without one is there to be read."""
        if self.budget is None:
            return True
        return self.value >= self.budget if self.bound == "floor" else self.value <= self.budget


def ratio(what: str, unit: str, reference: float, ours: float, budget: float, note: str = "") -> Measure:
    """Hold how many times ours is faster against a floor."""
    return Measure(what, unit, ours, reference / ours, budget, "floor", reference, note)


def limit(what: str, unit: str, ours: float, budget: float | None, note: str = "") -> Measure:
    """Hold a time or an amount against a ceiling."""
    return Measure(what, unit, ours, ours, budget, note=note)


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of all lie below."""
    return float(np.percentile(np.asarray(seconds), 100 * share))


def print_table(measures: Sequence[Measure], console: Console) -> None:
    """Print what, reference, ours, ratio, budget and whether it is met."""
    table = Table(title="Benchmarks")
    for name in ("what", "reference", "ours", "ratio", "budget", "met", "note"):
        table.add_column(name, justify="left" if name in ("what", "note") else "right")
    for row in cells(measures):
        table.add_row(*row)
    console.print(table)


def cells(measures: Sequence[Measure]) -> list[tuple[str, ...]]:
    """Return the table's cells as text."""
    return [
        (
            one.what,
            "" if one.reference is None else f"{_short(one.reference)} {one.unit}",
            f"{_short(one.ours)} {one.unit}",
            "" if one.reference is None else f"{_short(one.value)}x",
            _budget(one),
            "" if one.budget is None else "yes" if one.met else "NO",
            one.note,
        )
        for one in measures
    ]


def write(path: Path, part: str, measures: Sequence[Measure], seconds: float) -> None:
    """Put a part's results into the file, with machine, versions and commit; the other parts stay."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content[part] = {
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in NAMED}},
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
        "seconds": round(seconds, 1),
        "measures": [{**asdict(one), "met": one.met} for one in measures],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(path: Path, parts: Sequence[str]) -> list[tuple[Measure, str]]:
    """Return what the file has of these parts, in their order, each with the machine that it was measured on."""
    content = json.loads(path.read_text())
    return [
        (Measure(**{key: value for key, value in row.items() if key != "met"}), describe(content[part]["machine"]))
        for part in parts
        if part in content
        for row in content[part]["measures"]
    ]


def machine() -> dict[str, str | int | float]:
    """Describe the machine: processor, cores, memory, and how busy it was."""
    model, flags = platform.processor() or platform.machine(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line]
        said = {name.strip(): value.strip() for name, value in lines}
        model, flags = said.get("model name", model), set(said.get("flags", "").split())
    return {
        "processor": model,
        "vectors": next((words for flag, words in VECTORS.items() if flag in flags), ""),
        "cores": len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process(), "cpu_affinity")
        else psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(psutil.getloadavg()[0], 2),
    }


def describe(about: Mapping[str, Any]) -> str:
    """Return a machine in a few words: what its processor multiplies decides about the ratios."""
    return ", ".join(
        str(word) for word in (about["processor"], about.get("vectors"), f"{about['cores']} cores") if word
    )


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _budget(one: Measure) -> str:
    if one.budget is None:
        return ""
    unit = "x" if one.reference is not None else f" {one.unit}"
    return f"{'≥' if one.bound == 'floor' else '≤'} {_short(one.budget)}{unit}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
