"""Run a receiver without a node: ``run_receiver.py DATA PORT_FILE PORT [DATABASE]``."""

import sys
from pathlib import Path

# At the end: whoever tests a changed copy of the packages puts it first on PYTHONPATH.
sys.path.append(str(Path(__file__).parents[1]))


class PortFile:
    """Where the test reads the port as soon as the receiver listens."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, port: int) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(str(port))
        part.rename(self._path)


def main() -> None:
    from node.log import configure_logging
    from tests.build_wire import _serve, receive_settings

    data, port_file, port, *database = sys.argv[1:]
    changes = {"database": database[0]} if database else {}
    configure_logging()
    _serve(receive_settings(Path(data), port=int(port), **changes), PortFile(Path(port_file)))


if __name__ == "__main__":
    main()
