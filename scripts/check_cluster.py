#!/usr/bin/env python3
"""Runs `qembed_q.ray`, `.spark` and `.dask` of a built wheel on real clusters of this machine, and compares vectors bit for bit.

    check_cluster.py [WHEEL] [--record] [--shared MODEL.gguf] [OPTIONS OF PYTEST]

WHEEL is the one in `target/wheels` by default (`build_wheel.sh`). Ray with two actors, and with two nodes of which one is killed half way
through a job; Spark with two processes; Dask with two workers (tests: `python/tests/cluster/`). `--record` measures as well
(`ray_speed.py`), on a quiet machine please, and writes benches/record/DATE-cluster.md; `--shared` is a model to look at the memory with.

Everything is installed in `target/cluster` (about 1.5 GB), anew when what is asked for changes; remove the folder to get newer versions.
Needs Linux, Python 3.10 with pip, and Java 17.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

from check_clients import environment, passed, run, versions

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = REPOSITORY / "python" / "tests" / "cluster"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
FOLDER = TARGET / "cluster"


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?", type=Path, help="of this machine; by default the one in target/wheels")
    parser.add_argument("--record", action="store_true", help="measure, and write a record to benches/record")
    parser.add_argument("--shared", type=Path, metavar="MODEL.gguf", help="the model with which memory is measured")
    options, others = parser.parse_known_args()
    wheel = options.wheel or next((TARGET / "wheels").glob("*.whl"), None)
    if wheel is None:
        parser.error("there is no wheel in target/wheels: scripts/build_wheel.sh makes one")
    python = environment(FOLDER, TESTS / "requirements.txt")
    run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel.resolve())
    report = FOLDER / "report.xml"
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings", "--show-capture=no"]
    command += [f"--junit-xml={report}", *others, TESTS]
    # The wheel, and no checkout.
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    failed = subprocess.run([str(part) for part in command], env=settings, cwd=TESTS).returncode != 0
    installed = versions(python, TESTS / "requirements.txt")
    print(*installed, sep="\n")
    if options.record:
        measure = [python, REPOSITORY / "scripts" / "ray_speed.py"]
        measure += ["--shared", options.shared.resolve()] if options.shared else []
        measured = subprocess.run([str(part) for part in measure], env=settings, cwd=FOLDER, stdout=subprocess.PIPE, text=True)
        failed |= measured.returncode != 0
        print(measured.stdout)
        day = datetime.date.today().isoformat()
        lines = [f"# Clusters, {day}", ""]
        machine = f"{processor()}, {os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"
        lines += [f"`scripts/check_cluster.py --record`: {wheel.name}, {machine}.", ""]
        lines += ["| tests | passed | failed |", "|---|--:|--:|"]
        lines += [f"| `test_{test}.py` | {right} | {wrong} |" for test, (right, wrong) in sorted(passed(report).items())]
        lines += ["", "With " + ", ".join(installed) + ".", ""]
        lines += [line for line in measured.stdout.splitlines() if line.startswith("- ")]
        (REPOSITORY / "benches" / "record" / f"{day}-cluster.md").write_text("\n".join(lines) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
