"""The command ``python -m model.cost``: see ``model.lab.cost``."""

import sys

from model.lab.cost import main

if __name__ == "__main__":
    sys.exit(main())
