"""Delete what is old, as the node does: ``expire.py DATA``."""

import sys
from datetime import UTC, datetime
from pathlib import Path

# At the end: whoever tests a changed copy of the packages puts it first on PYTHONPATH.
sys.path.append(str(Path(__file__).parents[2]))


def main() -> None:
    from node.config import StorageSettings
    from node.ledger.engine import open_ledger
    from node.retention import Retention
    from node.sweep import remove_orphans
    from tests.build_ledger import ledger_url

    data, now = Path(sys.argv[1]), datetime.now(UTC)
    engine = open_ledger(ledger_url(data))
    Retention(engine, data, StorageSettings()).sweep(now)
    remove_orphans(engine, data, now)
    engine.dispose()


if __name__ == "__main__":
    main()
