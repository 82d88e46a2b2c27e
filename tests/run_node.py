"""Run a test node: ``run_node.py DATA BUNDLE NAME=PORT... PORT_FILE PORT``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> None:
    # The children of the node import this file again: they shall not pay for all this.
    from node import service
    from node.log import configure_logging
    from tests.fakes import QUICK, ball_config

    data, bundle, *named, port_file, port = sys.argv[1:]
    pacs = {name: int(number) for name, number in (one.split("=") for one in named)}

    def ready(number: int) -> None:
        part = Path(f"{port_file}.part")
        part.write_text(str(number))
        part.rename(port_file)

    configure_logging()
    config = ball_config(Path(data), Path(bundle), pacs, port=int(port))
    service.run(config, ready=ready, pace=QUICK)


if __name__ == "__main__":
    main()
