#!/usr/bin/env python3
"""Gets the vocabulary of Qwen and llama.cpp's test cases for it, which tests and a benchmark of the tokenizer need:

    python3 scripts/get_vocabulary.py
    cargo test -p qembed-models --features qwen-vocabulary --test qwen_vocabulary

The source package of llama-cpp-python (51 MB) carries them. pip downloads it; three files of it go to target/qwen-vocabulary, once
their checksums are found right, and nothing else is kept. Needs Python 3.9 with pip. Where the files are already, nothing is done.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "llama-cpp-python"
VERSION = "0.3.16"
FOLDER = Path(__file__).resolve().parent.parent / "target" / "qwen-vocabulary"
CHECKSUMS = {
    "ggml-vocab-qwen2.gguf": "44c2f46b715f585c6ab513970e8a006bfa5badd6108560054921cf598d154d8c",
    "ggml-vocab-qwen2.gguf.inp": "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0",
    "ggml-vocab-qwen2.gguf.out": "de785bb305cc6fa9d43908ed5da337f853c0b79e971348fcfb9f0915a39c5363",
}


def is_right(name, content):
    return hashlib.sha256(content).hexdigest() == CHECKSUMS[name]


def main():
    paths = {name: FOLDER / name for name in CHECKSUMS}
    if all(path.is_file() and is_right(name, path.read_bytes()) for name, path in paths.items()):
        return
    with tempfile.TemporaryDirectory() as folder:
        # Only this package as source: what pip asks for its metadata may come ready-made. Nothing of it is built.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
        subprocess.run([*pip, "--dest", folder, f"{PACKAGE}=={VERSION}"], check=True)
        (package,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(package) as archive:
            members = {Path(member.name).name: member for member in archive if "/llama.cpp/models/" in member.name}
            contents = {name: archive.extractfile(members[name]).read() for name in CHECKSUMS}
    for name, content in contents.items():
        if not is_right(name, content):
            sys.exit(f"{name} in {PACKAGE} {VERSION} is not the file that the tests were written for: its checksum differs")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        paths[name].write_bytes(content)
    print(f"{FOLDER}: {', '.join(CHECKSUMS)}")


if __name__ == "__main__":
    main()
