"""Entry of a worker process: `python -m tailorbird_agent.worker serve|measure --fd N --parent PID`."""

from __future__ import annotations

import argparse

from tailorbird_agent.worker import sandbox


def main() -> None:
    """Confine this process first, then import what it needs and obey the channel until it closes."""
    parser = argparse.ArgumentParser(prog="tailorbird_agent.worker")
    parser.add_argument("role", choices=("serve", "measure"))
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--address-space", type=int, default=None)
    options = parser.parse_args()
    layers = sandbox.enter(options.parent, address_space_bytes=options.address_space)
    if options.role == "serve":
        from tailorbird_agent.worker.serve import serve

        serve(options.fd, layers)
    else:
        from tailorbird_agent.worker.measure import measure

        measure(options.fd, layers)


if __name__ == "__main__":
    main()
