"""`make bench`: run every benchmark, or those named (`python -m tests.benchmarks dag tiles`); a table, and benchmarks/bench.json."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
OUTPUT = Path("benchmarks/bench.json")
RUN = "import importlib, json, sys; print('\\n' + json.dumps(importlib.import_module(sys.argv[1]).main()))"


def measure(name: str) -> list[dict[str, object]]:
    """The rows of one benchmark, in a process of its own, so that its peak memory is its own."""
    done = subprocess.run([sys.executable, "-c", RUN, f"tests.benchmarks.bench_{name}"], stdout=subprocess.PIPE, text=True, check=True)
    rows: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def main(names: list[str]) -> None:
    """Rows of benchmarks that were not run this time keep their place in the file."""
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"No benchmark {', '.join(unknown)}. There are: {', '.join(known)}")
    before = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else []
    rows = {row["name"]: row for row in before}
    for name in names or known:
        print(f"{name} ...", file=sys.stderr)
        rows |= {row["name"]: row for row in measure(name)}
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_text(json.dumps(list(rows.values()), indent=1) + "\n")
    print(pd.DataFrame(rows.values()).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1:])
