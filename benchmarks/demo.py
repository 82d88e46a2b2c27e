"""How long the demo takes, from the command to its verdict.

python -m benchmarks.demo [--runs 3] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "demo.json"


def seconds_of_one_run() -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        pellucid = Path(sys.executable).parent / "pellucid"
        subprocess.run(
            [str(pellucid), "demo", "--out", folder], check=True, stdout=subprocess.DEVNULL
        )
        return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how many (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file (%(default)s)")
    asked = parser.parse_args()
    runs = [seconds_of_one_run() for _ in range(asked.runs)]
    figures = {
        "runs": len(runs),
        "least_seconds": round(min(runs), 1),
        "median_seconds": round(statistics.median(runs), 1),
        "most_seconds": round(max(runs), 1),
    }
    print(json.dumps(figures, indent=2))
    asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
