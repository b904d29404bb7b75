"""The command line: ``python -m backend serve | web | worker | demo | doctor | status | copy-database``."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from backend import logs
from backend.config import Settings
from backend.errors import BackendError, ConfigError
from backend.queueing.queues import QUEUES, TRAIN
from backend.server.preflight import check_addresses, check_installation, check_packages
from backend.server.supervisor import is_supervised, watch_parent

PROGRAM = "pt4al"
EXIT_REFUSED = 2
PRIVATE_UMASK = 0o077  # all files, images and labels among them, are readable by this user alone


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = _parser().parse_args(argv)
    os.umask(PRIVATE_UMASK)
    try:
        settings = _settings(arguments)
        queues = getattr(arguments, "queues", None)
        logs.configure("+".join(queues) if queues else arguments.command, settings)
        code: int = arguments.run(arguments, settings)
        return code
    except BackendError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 130


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    from backend.server.serve import serve

    if arguments.kwargs:
        raise ConfigError("--with sets nothing here: a project is set up in Label Studio, under 'any extra params'")
    if arguments.check:
        check_packages()
        from backend.web.app import create_app

        create_app(settings)
        logging.getLogger(PROGRAM).info("the application can be made")
    return serve(settings, arguments.host)


def _web(arguments: argparse.Namespace, settings: Settings) -> int:
    check_packages()
    check_addresses(settings)
    if not is_supervised():  # a supervisor has checked it
        check_installation(settings)
    watch_parent()
    from backend.server.gunicorn import WebServer, warn_if_open

    warn_if_open(settings, arguments.host)
    WebServer(arguments.host, settings.port).run()
    return 0


def _worker(arguments: argparse.Namespace, settings: Settings) -> int:
    if not arguments.queues:
        from backend.server.serve import work

        return work(settings)
    check_packages()
    check_addresses(settings)
    watch_parent()
    from backend.loop import jobs
    from backend.loop.context import context
    from backend.loop.warm_up import warm_up
    from backend.queueing.worker import run_worker

    presence = jobs.on_worker_start(arguments.queues)
    if TRAIN in arguments.queues:
        warm_up(settings)
    run_worker(presence, context().queueing, jobs.tick, jobs.TICK_S)
    return 0


def _demo(arguments: argparse.Namespace, settings: Settings) -> int:
    from backend.demo import demo

    check_packages()
    return demo(settings)


def _doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    from backend.doctor import doctor

    check_packages()
    return doctor(settings)


def _status(arguments: argparse.Namespace, settings: Settings) -> int:
    from backend.status.table import show_status

    return show_status(settings)


def _copy_database(arguments: argparse.Namespace, settings: Settings) -> int:
    from backend.server.copy_database import copy

    return copy(settings, arguments.source)


def _settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings; options of the command line go into the environment, so that later readers agree."""
    options = {
        "PORT": getattr(arguments, "port", None),
        "DATA_DIR": getattr(arguments, "data_dir", None),
        "LOG_LEVEL": "DEBUG" if getattr(arguments, "debug", False) else getattr(arguments, "log_level", None),
    }
    os.environ.update({name: value for name, value in options.items() if value})
    return Settings.from_env()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backend", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="Redis (unless REDIS_URL is set), web and workers in one process tree")
    serve.set_defaults(run=_serve)
    # The options of ``label-studio-ml start``.
    serve.add_argument("--log-level", type=str.upper, choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    serve.add_argument("-d", "--debug", action="store_true", help="the same as --log-level DEBUG")
    serve.add_argument("--check", action="store_true", help="make the application once before starting")
    serve.add_argument("--with", "--kwargs", dest="kwargs", nargs="+", metavar="KEY=VALUE", help=argparse.SUPPRESS)

    web = commands.add_parser("web", help="the web server alone")
    web.set_defaults(run=_web)
    worker = commands.add_parser("worker", help="the workers alone")
    worker.set_defaults(run=_worker)
    worker.add_argument(
        "--queues", type=_queues, metavar="NAMES", help=f"one process for some of {','.join(QUEUES)}, not one for each"
    )
    demo = commands.add_parser("demo", help="the whole loop on scikit-learn's digits; see the Makefile")
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser("doctor", help="what is wrong in this installation, and how to fix it")
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("-p", "--port", help="port of the web server (default: PORT, else 9090)")

    status = commands.add_parser("status", help="all projects as a table, whether or not a server runs")
    status.set_defaults(run=_status)

    copying = commands.add_parser(
        "copy-database", help="copy the database of the data folder into the one that DATABASE_URL names"
    )
    copying.set_defaults(run=_copy_database)
    copying.add_argument("--from", dest="source", metavar="URL", help="another database to copy from")

    for command in (serve, web):
        command.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")
        command.add_argument("-p", "--port", help="port to listen on (default: PORT, else 9090)")
    for command in (serve, web, worker, doctor, status, copying):
        command.add_argument(
            "--data-dir", "--model-dir", metavar="DIR", help="what has to be kept (default: DATA_DIR, else pt4al-data)"
        )
    return parser


def _queues(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in QUEUES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown queue '{unknown[0]}': choose from {', '.join(QUEUES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
