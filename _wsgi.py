"""The WSGI application; run as a script, as ``label-studio-ml start .`` does, it starts web and workers."""

import sys

if __name__ == "__main__":
    from backend.__main__ import main

    sys.exit(main(["serve", *sys.argv[1:]]))

from backend.web.app import create_app

app = create_app()
