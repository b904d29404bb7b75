"""The application that gunicorn serves; run as a script (``label-studio-ml start .``) it starts everything."""

import sys

if __name__ == "__main__":
    from backend.__main__ import main

    sys.exit(main(["serve", *sys.argv[1:]]))

from backend.web.app import create_app

app = create_app()
