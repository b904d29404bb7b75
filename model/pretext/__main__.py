"""The command ``python -m model.pretext``: see ``model.lab.score_pretext``."""

import sys

from model.lab.score_pretext import main

if __name__ == "__main__":
    sys.exit(main())
