"""What a power cut would leave, by the journal of a receiver's fsyncs, renames and points."""

from collections.abc import Iterable
from pathlib import Path

from tests.fault import oracle
from tests.fault.points import Faults
from tests.fault.trials import Receiver, require_nothing_lost, require_taken


def receive_with_a_journal(folder: Path, database: str, faults: Faults) -> None:
    """Have a receiver take a study, and require of its journal that a power cut may come."""
    journal = folder / "journal"
    with Receiver(folder, database, faults, journal=journal) as receiver:
        modality = receiver.new_study()
        modality.send()
        require_nothing_lost(receiver, modality)
        require_taken(receiver, modality)
        files = oracle.final_files(receiver.data)
    safe = require_durable(journal.read_text().splitlines())
    assert set(files) <= safe, oracle.NOT_DURABLE


def require_durable(journal: Iterable[str]) -> set[Path]:
    """Require that content was safe before its name, and its name before its row and the answer.

    What has landed in a file whose name was safe before may be answered for at once.

    Returns the files whose content and name are safe at the end.
    """
    spares: set[Path] = set()
    safe_spares: set[Path] = set()
    answered = 0
    content: set[Path] = set()
    names: set[Path] = set()
    open_names: set[Path] = set()
    for line in journal:
        match line.split("\t"):
            case ["created", path]:
                spares.add(Path(path))
            case ["synced", path]:
                content.add(Path(path))
                safe_spares |= {spare for spare in spares if spare.parent == Path(path)}
                safe = {name for name in open_names if name.parent == Path(path)}
                names |= safe
                open_names -= safe
            case ["renamed", source, target] if target.endswith(".dcm"):
                assert Path(source) in content, oracle.NOT_DURABLE
                open_names.add(Path(target))
            case ["pellucid.ledger.instance_committed"]:
                assert not open_names, oracle.NOT_DURABLE
            case ["pellucid.receive.answered"]:
                answered += 1
                files = {each for each in content if each.suffix in (".part", ".landing")}
                assert answered <= len(files), oracle.NOT_DURABLE
                assert set(files & spares) <= safe_spares, oracle.NOT_DURABLE
                assert safe_spares or not open_names, oracle.NOT_DURABLE
    return names
