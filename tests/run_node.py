"""Run a test node: ``run_node.py DATA BUNDLE NAME=PORT... PORT_FILE PORT [OPTIONS]``."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

# At the end: whoever tests a changed copy of the packages puts it first on PYTHONPATH.
sys.path.append(str(Path(__file__).parents[1]))


def main() -> None:
    # The children of the node import this file again: they shall not pay for all this.
    from node import service
    from node.log import configure_logging
    from tests.fakes import QUICK, ball_config

    told = arguments()
    pacs = {name: int(number) for name, number in (one.split("=") for one in told.pacs)}

    def ready(number: int) -> None:
        part = Path(f"{told.port_file}.part")
        part.write_text(str(number))
        part.rename(told.port_file)

    configure_logging()
    config = ball_config(told.data, told.bundle, pacs, port=told.port)
    quiet = replace(config.routes[0].complete, quiet_seconds=told.quiet_seconds)
    config = replace(
        config,
        node=replace(
            config.node, database=told.database or config.node.database, workers=told.workers
        ),
        routes=(replace(config.routes[0], complete=quiet),),
    )
    service.run(config, ready=ready, pace=replace(QUICK, lease_seconds=told.lease_seconds))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pacs", nargs="*")
    parser.add_argument("port_file", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--database", default="")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--lease-seconds", type=float, default=60.0)
    parser.add_argument("--quiet-seconds", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
