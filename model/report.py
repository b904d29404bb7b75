"""The command ``python -m model.report``: see ``model.lab.report``."""

import sys

from model.lab.report.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
