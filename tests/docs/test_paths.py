"""The pages name files and folders that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# In backquotes: a path from the root, or the file name of a test alone.
PATH = re.compile(r"`((?:backend|model|tests|docs|benchmarks|scripts|docker)/[\w./-]*|test_\w+\.py)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)|src=\"([^\"]+)\"")
# What a reader of development.md is told to write, and what ``make faults`` leaves.
WRITTEN_LATER = {
    "backend/labeling/number.py",
    "model/pretext/mirror.py",
    "model/problems/regression.py",
    "model/querying/samplers/rim.py",
    "tests/faults/results.json",
}


def exists(path: str) -> bool:
    return any(ROOT.glob(f"tests/**/{path}")) if "/" not in path else (ROOT / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_a_page_exists(page: Path) -> None:
    paths = set(PATH.findall(page.read_text())) - WRITTEN_LATER
    assert [path for path in sorted(paths) if not exists(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = {first or second for first, second in LINK.findall(page.read_text())}
    assert [link for link in sorted(links) if not (page.parent / link).exists()] == []


def test_paths_are_found_in_backquotes() -> None:
    text = "see `backend/loop/`, `tests/loop/test_decide.py` and `test_decide.py`, not `backend` or backend/none.py"
    assert PATH.findall(text) == ["backend/loop/", "tests/loop/test_decide.py", "test_decide.py"]
    assert exists("backend/loop/")
    assert exists("test_decide.py")
    assert not exists("backend/none.py")
    assert not exists("test_none.py")
