#!/usr/bin/env python3
"""Runs the Python package's adapters in their frameworks, as shipped, and compares their vectors with the program's, bit for bit.

    check_frameworks.py WHEEL [--program PROGRAM] [--record FILE.md] [OPTIONS OF PYTEST]

WHEEL is what `build_wheel.sh` has built. PROGRAM is by default the one in the wheel. The tests are `python/tests/frameworks`; every
example in `python/examples/frameworks` is run, and mypy and pyright look at the adapters and at the examples. `--record` writes which
versions passed what.

Everything is installed in `target/frameworks` (several GB, most of it torch), anew when what is asked for changes, the wheel each time;
remove the folder to get newer versions. Needs Python 3.10 with pip.
"""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from check_clients import environment, passed, run, versions

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON = REPOSITORY / "python"
TESTS = PYTHON / "tests" / "frameworks"
EXAMPLES = PYTHON / "examples" / "frameworks"
ADAPTERS = sorted(example.stem.removeprefix("with_") for example in EXAMPLES.glob("with_*.py"))
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
FOLDER = TARGET / "frameworks"
BIN = FOLDER / ("Scripts" if os.name == "nt" else "bin")


def look(name, *command, **options):
    """Runs a command and says whether it succeeded."""
    right = subprocess.run([str(part) for part in command], **options).returncode == 0
    print(f"{'passed' if right else 'FAILED'}: {name}", flush=True)
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--program", type=Path, help="what vectors are compared with, instead of the wheel's own program")
    parser.add_argument("--record", type=Path, help="write which versions passed what")
    options, others = parser.parse_known_args()
    # A build of torch for processors alone is enough, where pip is told of one (PIP_EXTRA_INDEX_URL).
    python, wheel = environment(FOLDER, TESTS / "requirements.txt"), options.wheel.resolve()
    run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    # What the extras ask for is there by now, in versions that they take.
    extras = ",".join(adapter.replace("_", "-") for adapter in ADAPTERS if adapter != "fastembed")
    run(python, "-m", "pip", "install", "--quiet", "--no-index", f"{wheel}[{extras}]")
    program = options.program.resolve() if options.program else shutil.which("qembed-q", path=str(BIN))
    # The wheel is tested, not the sources; and nothing of the machine's own settings.
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    settings |= {"QEMBED_PROGRAM": str(program), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    # Nothing is told to anybody.
    settings |= {"HAYSTACK_TELEMETRY_ENABLED": "false", "ANONYMIZED_TELEMETRY": "False"}
    results = {}
    report = FOLDER / "report.xml"
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings", f"--junit-xml={report}", *others, TESTS]
    look("tests", *command, env=settings, cwd=TESTS)
    for test, (right, wrong) in sorted(passed(report).items()):
        results[f"`test_{test}.py`"] = (right, wrong)
    for adapter in ADAPTERS:
        right = look(f"with_{adapter}.py", python, EXAMPLES / f"with_{adapter}.py", env=settings, cwd=FOLDER)
        results[f"`with_{adapter}.py` runs"] = (right, not right)
    modules = [f"--module=qembed_q.{name}" for name in ("adapter", *ADAPTERS)]
    right = look("mypy", python, "-m", "mypy", "--config-file", PYTHON / "pyproject.toml", *modules, env=settings, cwd=FOLDER)
    results["`mypy --strict` on the adapters"] = (right, not right)
    right = look("pyright", python, "-m", "pyright", "--pythonpath", python, EXAMPLES, env=settings, cwd=FOLDER)
    results["`pyright` on the examples"] = (right, not right)
    installed = versions(python, TESTS / "requirements.txt")
    print(*installed, sep="\n")
    if options.record:
        version = run(program, "--version", stdout=subprocess.PIPE, text=True).stdout.strip()
        lines = ["# Adapters in their frameworks", ""]
        lines += [f"{version}, {platform.system()} {platform.machine()}, Python {platform.python_version()}, {datetime.date.today()}."]
        lines += ["", "| what | passed | failed |", "|---|--:|--:|"]
        lines += [f"| {name} | {int(right)} | {int(wrong)} |" for name, (right, wrong) in results.items()]
        lines += ["", "With " + ", ".join(installed) + "."]
        options.record.write_text("\n".join(lines) + "\n")
    sys.exit(any(wrong for _, wrong in results.values()) or not results)


if __name__ == "__main__":
    main()
