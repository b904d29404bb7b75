"""An empty database of the installed Label Studio, prepared once: making its tables takes most of a first start."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from backend.errors import ConfigError

DATABASE = "label_studio.sqlite3"
QUIET = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}


def kept_database(program: Path) -> Path:
    """Return where the empty database for this program of Label Studio is kept; it names the version."""
    home = program.parent.parent
    found = sorted(home.glob("lib/python*/site-packages/label_studio-*.dist-info"))
    return home / f"empty-{found[0].stem if found else 'unknown'}.sqlite3"


def prepare(program: Path) -> Path:
    """Make the empty database unless it is there, which takes half a minute; return where it is.

    Raises:
        ConfigError: Label Studio does not make one.
    """
    kept = kept_database(program)
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        # Any command makes the tables first; this one then looks for a user and ends.
        done = subprocess.run(
            [str(program), "user", "--username", "nobody@example.com"],
            env={**os.environ, **QUIET, "LABEL_STUDIO_BASE_DATA_DIR": folder},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        made = Path(folder) / DATABASE
        if done.returncode or not made.exists():
            raise ConfigError(f"{program} makes no database: {done.stderr[-1000:]}")
        made.replace(kept)
    return kept


def give(program: Path, folder: Path) -> None:
    """Put a copy of the prepared database into the data folder of a new Label Studio, where one was prepared."""
    kept = kept_database(program)
    folder.mkdir(parents=True, exist_ok=True)
    if kept.exists() and not (folder / DATABASE).exists():
        shutil.copyfile(kept, folder / DATABASE)


def main() -> None:
    """Prepare it for the Label Studio of ``make setup``; say why where that fails, and leave it to the first start."""
    from backend.demo.servers import label_studio_program

    print("preparing Label Studio's database, once: half a minute", flush=True)
    try:
        prepare(Path(label_studio_program()))
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
