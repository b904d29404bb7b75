"""The command ``python -m model.simulate``: see ``model.lab.simulate``."""

import sys

from model.lab.simulate import main

if __name__ == "__main__":
    sys.exit(main())
