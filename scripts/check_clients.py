#!/usr/bin/env python3
"""Runs real clients, as shipped, against `qembed-q serve`, and compares their vectors with the program's own, bit for bit.

    check_clients.py [PROGRAM] [--all] [--record FILE.md] [OPTIONS OF PYTEST]

PROGRAM is `target/release/qembed-q` by default. Without `--all`: those that are installed in a minute (the packages of
`clients/requirements.txt`, and curl). With it, as well: LangChain, LlamaIndex, Haystack, LiteLLM (`clients/requirements-all.txt`),
those of npm (`clients/package.json`), and schemathesis over `/openapi.json`. `--record` writes which versions passed what.

Everything is installed in `target/clients`, anew each time what is asked for changes; remove the folder to get newer versions. Needs
Python 3.10 with pip, curl and cargo; `--all` needs Node.js 20 with npm. The token arrays of OpenAI's clients need the vocabulary of Qwen, which
`get_vocabulary.py` gets.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = REPOSITORY / "scripts" / "clients"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
FOLDER = TARGET / "clients"
QUICK = ["openai", "ollama", "huggingface", "hub_cache", "cohere", "curl"]
MORE = ["langchain", "llamaindex", "haystack", "litellm", "node", "schemathesis"]


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def names(requirements):
    """The packages that a file of requirements names, and those of the files that it names."""
    found = []
    for line in requirements.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("-r"):
            found += names(requirements.parent / line[2:].strip())
        elif line:
            found.append(re.split(r"[<>=!~\[; ]", line)[0])
    return found


def unchanged(stamp, *sources):
    """Whether `stamp` was written for these files as they are; writes down that it is, for the next time."""
    content = "\n".join(source.read_text() for source in sources)
    return stamp.is_file() and stamp.read_text() == content, lambda: stamp.write_text(content)


def environment(folder, requirements, *named):
    """A virtual environment with what a file of requirements, and those that it names, ask for; gives its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    is_there, note = unchanged(folder.with_name(f"{folder.name}.txt"), *named, requirements)
    if not is_there:
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder)
        run(python, "-m", "pip", "install", "--quiet", "--requirement", requirements)
        note()
    return python


def node_packages():
    """The packages of npm; gives the folder that holds them."""
    folder = FOLDER / "node"
    is_there, note = unchanged(FOLDER / "node.txt", TESTS / "package.json")
    if not is_there:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(TESTS / "package.json", folder)
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", cwd=folder)
        note()
    return folder


def qwen_model():
    """A small model of random weights with the vocabulary of Qwen."""
    path = FOLDER / "qwen.gguf"
    if not path.is_file():
        run(sys.executable, REPOSITORY / "scripts" / "get_vocabulary.py")
        vocabulary = REPOSITORY / "target" / "qwen-vocabulary" / "ggml-vocab-qwen2.gguf"
        # As the tests have built it.
        synth = ["cargo", "run", "--quiet", "--example", "synth", "--"]
        run(*synth, "--shape", "tiny,vocab=151936", "--type", "Q8_0", "--vocab", vocabulary, "--out", path, cwd=REPOSITORY)
    return path


def passed(report):
    """What a report of pytest says of each file: name → (passed, failed)."""
    counts = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname").split(".")[-1].removeprefix("test_")
        right, wrong = counts.get(name, (0, 0))
        failed = any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        counts[name] = (right + (not failed), wrong + failed)
    return counts


def versions(python, requirements):
    script = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep='\\n')"
    return run(python, "-c", script, *names(requirements), stdout=subprocess.PIPE, text=True).stdout.split("\n")[:-1]


def node_versions(folder):
    packages = json.loads((TESTS / "package.json").read_text())["dependencies"]
    return [f"{name} {json.loads((folder / 'node_modules' / name / 'package.json').read_text())['version']}" for name in packages]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", type=Path, default=TARGET / "release" / "qembed-q")
    parser.add_argument("--all", action="store_true", help="every client, not only those that are installed in a minute")
    parser.add_argument("--record", type=Path, help="write which versions passed what")
    options, others = parser.parse_known_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    settings = os.environ | {"QEMBED_PROGRAM": str(options.program.resolve()), "QEMBED_QWEN": str(qwen_model())}
    # Nothing of the machine's own settings, such as an address of another server.
    settings = {name: value for name, value in settings.items() if not name.startswith(("OPENAI_", "OLLAMA_", "HF_", "CO_API"))}
    runs = [("quick", TESTS / "requirements.txt", QUICK)]
    if options.all:
        runs.append(("all", TESTS / "requirements-all.txt", MORE))
        settings["QEMBED_NODE"] = str(node_packages())
    lines, failed = [], False
    for name, requirements, tests in runs:
        python = environment(FOLDER / name, requirements, TESTS / "requirements.txt")
        report = FOLDER / f"{name}.xml"
        files = [TESTS / f"test_{test}.py" for test in tests]
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "--disable-warnings", f"--junit-xml={report}", *others, *files]
        failed |= subprocess.run([str(part) for part in command], env=settings, cwd=TESTS).returncode != 0
        print(*versions(python, requirements), sep="\n")
        lines += ["", "| tests | passed | failed |", "|---|--:|--:|"]
        lines += [f"| `test_{test}.py` | {right} | {wrong} |" for test, (right, wrong) in sorted(passed(report).items())]
        lines += ["", "With " + ", ".join(versions(python, requirements)) + "."]
        if name == "all":
            lines += ["", "Packages of npm: " + ", ".join(node_versions(FOLDER / "node")) + "."]
    if options.record:
        version = run(options.program, "--version", stdout=subprocess.PIPE, text=True).stdout.strip()
        head = f"{version}, {platform.system()} {platform.machine()}, Python {platform.python_version()}, {datetime.date.today()}."
        options.record.write_text("\n".join(["# Real clients against `qembed-q serve`", "", head, *lines]) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
