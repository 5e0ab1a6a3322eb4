#!/usr/bin/env python3
"""Kills `qembed-q embed` at random moments, fills its disk, and looks whether what `--resume` writes is what an undisturbed run writes.

    corpus_faults.py target/release/qembed-q                  50 kills of each form, 5,000 rows, the built-in model
    corpus_faults.py target/release/qembed-q --record         and a record in benches/record/

A kill is SIGKILL, at a moment drawn between the start and the time that a whole run takes; after each, the same command with `--resume` is killed
again or let finish, by turns. The full disk is a tmpfs with room for half of what a run writes: that run must fail with exit status 1 and say that there
is no space; then the disk is made larger and the run resumed. Mounting needs root; without it that part is left out, and said so.

Exit status 1 when an output differs by a byte, anything is left behind, or an exit status is another than it should be.
"""

import argparse
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORMS = ["parquet", "jsonl", "npy", "db"]


def rows(path, count):
    """A file of rows of several lengths."""
    with open(path, "w", encoding="utf-8") as file:
        for i in range(count):
            text = f"sentence {i} " * (1 + i * 7 % 3)
            file.write(json.dumps({"id": f"row-{i}", "n": i, "title": f"title {i % 97}", "text": text}) + "\n")


def start(arguments, **more):
    return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more)


def finish(arguments, code=0):
    """Runs to the end; what was said."""
    process = start(arguments)
    _, said = process.communicate()
    if process.returncode != code:
        raise SystemExit(f"exit status {process.returncode}, not {code}: {' '.join(map(str, arguments))}\n{said}")
    return said


def leftovers(folder, output):
    return [path.name for path in folder.iterdir() if path.name.startswith((f"{output.name}.", f".{output.name}"))]


def kills(command, folder, form, count, draw):
    """Kills until so many kills have hit; how many runs it took, and at how many of them the output was written from the journal."""
    whole, output = folder / f"whole.{form}", folder / f"out.{form}"
    began = time.monotonic()
    finish(command(whole))
    took = time.monotonic() - began
    expected = whole.read_bytes()
    hit = runs = begun_again = 0
    while hit < count:
        output.unlink(missing_ok=True)
        for path in folder.glob(f"out.{form}.*"):
            path.unlink()
        for again in range(1, 100):
            began = time.monotonic()
            process = start([*command(output), "--resume"])
            try:
                process.wait(draw.uniform(0, took * 1.05))
                if again == 1:
                    # The machine may have become faster than when it was measured.
                    took = min(took, time.monotonic() - began)
            except subprocess.TimeoutExpired:
                process.kill()
                hit += 1
                begun_again += again > 1
            process.communicate()
            # A run that is killed after its last step leaves nothing to resume, which the next one would say.
            if output.exists() and not leftovers(folder, output):
                break
            if process.returncode != -9:
                raise SystemExit(f"{form}: exit status {process.returncode}")
            # By turns: let it finish, or try to kill it again.
            if again % 2 == 0:
                finish([*command(output), "--resume"])
                break
        runs += 1
        if output.read_bytes() != expected:
            raise SystemExit(f"{form}: after {hit} kills the output is another")
        if left := leftovers(folder, output):
            raise SystemExit(f"{form}: left behind: {left}")
    return {"form": form, "kills": hit, "of a resumed run": begun_again, "outputs compared": runs, "a whole run": f"{took:.2f} s"}


def full_disk(command, folder, form):
    """A run that finds no room, and goes on when there is."""
    whole = folder / f"whole.{form}"
    expected = whole.read_bytes()
    disk = folder / f"disk-{form}"
    disk.mkdir()
    room = len(expected) // 2
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk], check=True)
    try:
        output = disk / f"out.{form}"
        said = finish(command(output), code=1)
        if "No space left" not in said and "disk is full" not in said and "database or disk is full" not in said:
            raise SystemExit(f"{form}: it does not say that the disk is full: {said}")
        if output.exists():
            raise SystemExit(f"{form}: there is an output although the disk was full")
        subprocess.run(["mount", "-o", f"remount,size={len(expected) * 4 + (64 << 20)}", disk], check=True)
        finish([*command(output), "--resume"])
        if output.read_bytes() != expected or leftovers(disk, output):
            raise SystemExit(f"{form}: after the full disk the output is another, or something is left: {leftovers(disk, output)}")
    finally:
        subprocess.run(["umount", disk], check=True)
    return said.strip().splitlines()[-1].replace(str(disk), "…")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="of each form")
    parser.add_argument("--rows", type=int, default=5000, metavar="N")
    parser.add_argument("--forms", nargs="+", default=FORMS, metavar="FORM")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--record", action="store_true", help="write a record to benches/record")
    args = parser.parse_args()
    program, draw = args.program.resolve(), random.Random(args.seed)
    lines, disks = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = folder / "in.jsonl"
        rows(source, args.rows)

        def command(output):
            return [program, "embed", "--input", source, "--id", "id", "--keep", "all", "--output", output]

        for form in args.forms:
            lines.append(kills(command, folder, form, args.kills, draw))
            print(lines[-1], flush=True)
            if os.name == "posix" and os.geteuid() == 0:
                disks.append((form, full_disk(command, folder, form)))
                print(*disks[-1], flush=True)
    if not disks:
        print("no full disk: mounting a tmpfs needs root", file=sys.stderr)
    if args.record:
        day = datetime.date.today().isoformat()
        version = subprocess.run([program, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        head = list(lines[0])
        text = [
            f"# Corpora: killed, and out of room, {day}\n",
            f"`scripts/corpus_faults.py target/release/qembed-q --kills {args.kills} --rows {args.rows} --seed {args.seed} --record`: {version}, the built-in model. "
            "After each kill the output of the resumed run was compared with that of an undisturbed one, byte for byte.\n",
            "| " + " | ".join(head) + " |",
            "|---" * len(head) + "|",
            *("| " + " | ".join(str(line[name]) for name in head) + " |" for line in lines),
            "",
        ]
        if disks:
            text += ["A disk with room for half of the output, then for all of it; what the first run said:\n"]
            text += [f"- {form}: `{said}`" for form, said in disks]
        else:
            text += ["The full disk was not tried: that needs root."]
        (ROOT / "benches/record" / f"{day}-corpus-faults.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
