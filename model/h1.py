"""The command ``python -m model.h1``: see ``model.lab.loss_correlation``."""

import sys

from model.lab.loss_correlation import main

if __name__ == "__main__":
    sys.exit(main())
