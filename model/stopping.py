"""The command ``python -m model.stopping``: see ``model.lab.stopping``."""

import sys

from model.lab.stopping import main

if __name__ == "__main__":
    sys.exit(main())
