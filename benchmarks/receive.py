"""How fast images are taken, beside Orthanc, DCMTK and stock pynetdicom in one run.

    python -m benchmarks.receive [--large 400] [--small 4000] [--senders 1 2 4 8] [--rounds 3]

DCMTK's storescu sends, each sender its share over one association, with TCP_NODELAY. Every run
begins with an empty receiver. An acknowledgement counts from request to response in the
sender's log. Pellucid and Orthanc sync what they acknowledge, the others do not.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.receive_servers import RECEIVERS, SENDER, Receiver
from dicom_io.uids import named_uid

RESULTS = Path(__file__).parent / "results" / "receive.json"
#: Rows and columns: 0.5 MB and 30 KB of 16-bit pixels.
_LARGE, _SMALL = 512, 122
_QUICK = {"TCP_NODELAY": "1", "TCP_BUFFER_LENGTH": "1048576"}
_LOG_SETTINGS = """
log4cplus.rootLogger = INFO, console
log4cplus.appender.console = log4cplus::ConsoleAppender
log4cplus.appender.console.layout = log4cplus::PatternLayout
log4cplus.appender.console.layout.ConversionPattern = %D{%s.%q} %m%n
"""
_SENDING, _ANSWERED = "Sending Store Request", "Received Store Response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one receiver did with one load."""

    receiver: str
    load: str
    senders: int
    instances_per_second: float
    megabytes_per_second: float
    #: Below which 95 % of the acknowledgements lie.
    acknowledgement_p95_ms: float
    memory_mb: float


_FIGURES = [field.name for field in fields(Reading)][3:]


def main() -> None:
    asked = _arguments().parse_args()
    # Of the receivers too: half of DCMTK's wait on loopback is theirs.
    os.environ.update(_QUICK)
    readings = []
    with tempfile.TemporaryDirectory(dir=asked.work) as work:
        loads = {
            name: _written(Path(work) / name, count, side)
            for name, count, side in (
                ("large", asked.large, _LARGE),
                ("small", asked.small, _SMALL),
            )
            if count
        }
        runs = [
            (load, senders, receiver)
            for load in loads
            for senders in asked.senders
            for _ in range(asked.rounds)
            for receiver in asked.receivers
        ]
        for number, (load, senders, receiver) in enumerate(
            track(runs, "runs", console=Console(stderr=True))
        ):
            # Each stays until all are over: ext4 without a journal passes over what was deleted in
            # the last minutes, inode by inode, for every new file.
            folder = Path(work) / f"run-{number}"
            with RECEIVERS[receiver](folder) as running:
                # A host that shares its processors slows down for a while whoever was just busy,
                # and to start our node takes more of them than to start the others.
                time.sleep(asked.rest)
                reading = _measured(running, receiver, load, _shares(loads[load], senders), folder)
            readings.append(reading)
    medians = _medians(readings)
    show(medians, Console())
    asked.json.write_text(json.dumps([asdict(each) for each in medians], indent=1) + "\n", "utf-8")
    for load in loads:
        print(f"{load}: ratio to Orthanc: {_ratios(readings, load)}")
    print(f"ratio to Orthanc: {_ratios(readings, next(iter(loads)))}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--large", type=int, default=400, help="CT of 0.5 MB (%(default)s)")
    parser.add_argument("--small", type=int, default=4000, help="of 30 KB (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, for medians (%(default)s)")
    parser.add_argument("--rest", type=float, default=12, help="seconds before each (%(default)s)")
    parser.add_argument("--senders", type=int, nargs="+", default=[1, 2, 4, 8], help="at once")
    parser.add_argument(
        "--receivers", nargs="+", default=list(RECEIVERS), choices=list(RECEIVERS), metavar="NAME"
    )
    parser.add_argument(
        "--work",
        type=Path,
        help="folder on the disk to measure; all runs need about 16 GB",
    )
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write (%(default)s)")
    return parser


def _written(folder: Path, count: int, side: int) -> list[Path]:
    """Return files of CT images, all of one series, with noise for pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        path = folder / f"{number:05d}.dcm"
        _image(side, number, rng).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _image(side: int, number: int, rng: np.random.Generator) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = named_uid(f"receive {side} {number}")
    dataset.StudyInstanceUID = named_uid(f"receive {side} study")
    dataset.SeriesInstanceUID = named_uid(f"receive {side} series")
    dataset.PatientName, dataset.PatientID = "Load^Test", "LOAD"
    dataset.Modality = "CT"
    dataset.InstanceNumber = number + 1
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = rng.integers(0, 4096, (side, side), dtype=np.uint16).tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _shares(paths: Sequence[Path], senders: int) -> list[Sequence[Path]]:
    return [paths[number::senders] for number in range(senders)]


def _measured(
    running: Receiver, name: str, load: str, shares: Sequence[Sequence[Path]], folder: Path
) -> Reading:
    settings = folder / "log.cfg"
    settings.write_text(_LOG_SETTINGS)
    logs = [folder / f"sender-{number}.log" for number in range(len(shares))]
    start = time.monotonic()
    senders = [
        _sender(running, each, settings, log) for each, log in zip(shares, logs, strict=True)
    ]
    codes = [sender.wait() for sender in senders]
    seconds = time.monotonic() - start
    waits = [wait for log in logs for wait in _waits(log)]
    paths = [path for share in shares for path in share]
    if any(codes) or len(waits) != len(paths):
        raise RuntimeError(
            f"{name} acknowledged {len(waits)} of {len(paths)} instances, storescu ended with "
            f"{codes}: see its log\n{logs[0].read_text()[-2000:]}"
        )
    sent = sum(path.stat().st_size for path in paths)
    return Reading(
        receiver=name,
        load=load,
        senders=len(shares),
        instances_per_second=round(len(paths) / seconds, 1),
        megabytes_per_second=round(sent / seconds / 1e6, 1),
        acknowledgement_p95_ms=round(float(np.quantile(waits, 0.95)) * 1e3, 1),
        memory_mb=round(running.peak_memory_bytes() / 1e6),
    )


def _medians(readings: Sequence[Reading]) -> list[Reading]:
    """Return one reading for the rounds of each receiver, load and number of senders."""
    keys = dict.fromkeys((each.receiver, each.load, each.senders) for each in readings)
    rounds = [
        [each for each in readings if (each.receiver, each.load, each.senders) == key]
        for key in keys
    ]
    return [
        replace(each[0], **{name: median(getattr(one, name) for one in each) for name in _FIGURES})
        for each in rounds
    ]


def _sender(
    running: Receiver, paths: Sequence[Path], settings: Path, log: Path
) -> subprocess.Popen[bytes]:
    command = ["/usr/bin/storescu", "--log-config", str(settings), "-aet", SENDER]
    command += ["-aec", running.ae_title, "127.0.0.1", str(running.port), *map(str, paths)]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


def _waits(log: Path) -> Iterator[float]:
    """Yield the seconds from each file's sending to its successful answer."""
    begun = 0.0
    for line in log.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+\.\d+) (?:I: )?(.*)", line)
        if found and found[2].startswith(_SENDING):
            begun = float(found[1])
        elif found and found[2].startswith(_ANSWERED) and "Success" in found[2]:
            yield float(found[1]) - begun


def show(readings: Sequence[Reading], console: Console) -> None:
    for load in dict.fromkeys(each.load for each in readings):
        table = Table("receiver", "senders", "instances/s", "MB/s", "p95 ms", "MB held", title=load)
        for each in readings:
            if each.load == load:
                table.add_row(
                    each.receiver,
                    str(each.senders),
                    f"{each.instances_per_second:.0f}",
                    f"{each.megabytes_per_second:.0f}",
                    f"{each.acknowledgement_p95_ms:.0f}",
                    f"{each.memory_mb:.0f}",
                )
        console.print(table)


def _ratios(readings: Sequence[Reading], load: str) -> str:
    """Return by number of senders how much faster than Orthanc we are: the median of the rounds.

    Of each round by itself: a machine that is slow for a minute is slow for both.
    """
    rates: dict[tuple[str, int], list[float]] = {}
    for each in readings:
        if each.load == load:
            rates.setdefault((each.receiver, each.senders), []).append(each.instances_per_second)
    ratios = {
        senders: median(
            ours / theirs for ours, theirs in zip(rate, rates["Orthanc", senders], strict=True)
        )
        for (receiver, senders), rate in rates.items()
        if receiver == "Pellucid" and ("Orthanc", senders) in rates
    }
    return " ".join(f"{senders}={ratio:.2f}" for senders, ratio in ratios.items())


if __name__ == "__main__":
    main()
