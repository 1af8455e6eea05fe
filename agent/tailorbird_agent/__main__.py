"""tailorbird-agent run | status | install."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tailorbird_agent import __version__
from tailorbird_agent.config import SWAPS, Config, load_config
from tailorbird_agent.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 usage, 4 no agent answers."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.act(options))
    except ConfigError as error:
        sys.stderr.write(f"tailorbird-agent: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tailorbird-agent", description="Measure, hold and serve on this device.")
    parser.add_argument("--version", action="version", version=f"tailorbird-agent {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve until told to stop")
    _common(run)
    run.add_argument("--name", help="the device's name, by default its host name")
    run.add_argument("--tcp", metavar="HOST:PORT", help="serve inference there too; loopback only without TLS")
    run.add_argument("--tcp-control", metavar="HOST:PORT", help="serve control there too; needs the three TLS files")
    run.add_argument("--tls-cert", type=Path, metavar="FILE", help="this agent's certificate, PEM")
    run.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, PEM")
    run.add_argument("--tls-client-ca", type=Path, metavar="FILE", help="CA that signs the clients' certificates, PEM")
    run.add_argument("--quota-bytes", type=int, metavar="N", help="most that blobs may take; 0 for the whole disk")
    run.add_argument("--model-memory-bytes", type=int, metavar="N", help="most that a model's rungs may take in memory")
    run.add_argument("--swap", choices=SWAPS, help="load a new bundle beside the old one, after it, or as fits")
    run.add_argument("--idle-exit", dest="idle_exit_s", type=float, metavar="SECONDS", help="leave when nobody calls")
    run.add_argument("--hardware-root", type=Path, metavar="DIR", help="folder that has the device's /proc and /sys")
    run.add_argument("--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    run.set_defaults(act=_run)

    status = commands.add_parser("status", help="what an agent on this machine is doing")
    _common(status)
    status.add_argument("--json", action="store_true", help="print it as JSON")
    status.set_defaults(act=_status)

    install = commands.add_parser("install", help="write a hardened systemd unit")
    install.add_argument("--user", action="store_true", help="for this user instead of the system")
    install.add_argument("--dry-run", action="store_true", help="print it, write nothing")
    install.set_defaults(act=_install)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML settings")
    parser.add_argument("--state", type=Path, metavar="DIR", help="state folder")
    parser.add_argument("--socket-dir", type=Path, metavar="DIR", help="folder of the sockets, by default the state's")


def _config(options: argparse.Namespace) -> Config:
    flags = {key: value for key, value in vars(options).items() if key not in {"act", "config", "json"}}
    return load_config(flags, file=options.config)


def _run(options: argparse.Namespace) -> int:
    from tailorbird_agent import gone
    from tailorbird_agent.daemon import run

    config = _config(options)
    logging.basicConfig(
        level=config.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    gone.keep_quiet()
    asyncio.run(run(config))
    return 0


def _status(options: argparse.Namespace) -> int:
    from tailorbird_agent.status import show_status

    return show_status(_config(options), as_json=options.json)


def _install(options: argparse.Namespace) -> int:
    from tailorbird_agent.unit import install_unit

    return install_unit(user=options.user, dry_run=options.dry_run)


if __name__ == "__main__":
    sys.exit(main())
