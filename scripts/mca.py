#!/usr/bin/env python3
"""Cycles of the inner loops of the products, by llvm-mca: what a core model says of the compiled code.

    scripts/mca.py [--only TIER ...] [--asm x86=FILE] [--asm arm=FILE] [--show]

Compiles the kernels to assembly for x86-64 and, with what scripts/test-arm64.sh has set up, for ARM64; finds the loop over the
groups of a panel in each product (the one with the most product instructions); and lets `llvm-mca` (LLVM 19) run it. The
limit is what the product instructions alone take of the core's units. `--show` writes the loops to standard error.

A model knows units, latencies and widths, no caches: it is the best that the code could do, on a core as LLVM describes it.
LLVM 19 has Cortex-A57's description for cortex-a76; neoverse-n1 is the description of its server sibling.
"""
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MCA = os.environ.get("LLVM_MCA", "llvm-mca-19")

# What ends a group: multiply-adds of floats.
FLOATS = r"vfn?m\w+ps|fmla"

# Architecture, tier, names of functions, weights, block (rows, columns, values), product instructions, values a product takes, core models.
# With `few`, the loop with the fewest instructions of those that have most products, with `wide` the one that widens
# most sums, otherwise the one with the most float ones.
LOOPS = [
    ("x86", "avx2", "gemm_i8", "Q4_K", (4, 16, 32), r"vpmaddubsw", 32, ["haswell", "alderlake", "znver3"], "few"),
    ("x86", "avx2", "gemm_i8", "Q6_K", (4, 16, 16), r"vpmaddubsw", 32, ["haswell", "alderlake", "znver3"], "wide"),
    ("x86", "avx2", "gemm_i16", "Q8_0, first layers", (4, 16, 32), r"vpmaddwd", 16, ["haswell", "alderlake", "znver3"], ""),
    ("x86", "avxvnni", "gemm", "Q4_K", (6, 16, 32), r"(?:{vex}\s+)?vpdpbusd", 32, ["alderlake"], ""),
    ("x86", "avx512vnni", "gemm", "Q4_K", (6, 32, 32), r"vpdpbusd", 64, ["icelake-server", "sapphirerapids"], ""),
    ("x86", "avx512vnni", "gemm_i16", "first layers", (6, 32, 32), r"vpdpwssd", 32, ["icelake-server", "sapphirerapids"], ""),
    ("arm", "neon", "gemm_i8", "Q4_K", (2, 8, 32), r"sm(?:ull|lal)2?", 8, ["cortex-a53", "cortex-a72", "apple-m1"], ""),
    ("arm", "neon", "gemm_i8", "Q8_0", (2, 8, 32), r"sm(?:ull|lal)2?", 8, ["cortex-a53", "cortex-a72", "apple-m1"], "wide"),
    ("arm", "neon", "gemm_i16", "first layers", (6, 8, 32), r"sm(?:ull|lal)2?", 4, ["cortex-a53", "cortex-a72", "apple-m1"], ""),
    ("arm", "dotprod", "gemm_i8", "Q4_K", (8, 8, 32), r"sdot", 16, ["cortex-a76", "neoverse-n1", "apple-m1"], ""),
    ("arm", "dotprod", "gemm_i16", "first layers", (4, 8, 32), r"sdot", 8, ["cortex-a76", "neoverse-n1", "apple-m1"], ""),
    ("arm", "i8mm", "gemm", "Q4_K", (8, 8, 32), r"smmla", 32, ["neoverse-n2", "neoverse-v1"], ""),
]


def assembly(arch):
    """Paths of the kernels' assembly, compiled now."""
    cargo = ["cargo", "rustc", "--quiet", "--release", "-p", "qembed-kernels", "--lib"]
    target, env = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")), dict(os.environ)
    if arch == "arm":
        home = target / "arm64"
        if not (home / "ready").exists():
            sys.exit("run scripts/test-arm64.sh first: it sets the compiler up")
        target = home / "build"
        env |= {"RUSTC": str(home / "bin/rustc"), "CARGO_TARGET_DIR": str(target)}
        cargo += ["--target", "aarch64-unknown-linux-gnu"]
        target /= "aarch64-unknown-linux-gnu"
    subprocess.run([*cargo, "--", "--emit", "asm", "-C", "lto=off", "-C", "debuginfo=0"], cwd=ROOT, env=env, check=True)
    files = list((target / "release/deps").glob("qembed_kernels-*.s"))
    return max(files, key=lambda file: file.stat().st_mtime)


def functions(text, tier, name):
    """Lines of each function of the module of a tier whose path has this name in it."""
    found, lines = [], None
    for line in text.splitlines():
        if re.match(rf"_\S*3isa{len(tier)}{tier}\S*{name}\S*:", line):
            lines = []
        elif re.match(r"\.Lfunc_end", line):
            if lines:
                found.append(lines)
            lines = None
        elif lines is not None:
            # Comments; in ARM64's assembly a # starts a number.
            lines.append(re.sub(r"/\*.*?\*/|\s*//.*|\s*#(APP|NO_APP|[# ]).*", "", line))
    return found


def instructions(lines):
    return [line for line in lines if re.match(r"\s+[a-z{]", line)]


def count(lines, pattern):
    return sum(bool(re.match(rf"\s+(?:{pattern})\s", line)) for line in lines)


def loops(lines):
    """First and last line of each loop: from a label to a branch back to it."""
    labels = {m[1]: i for i, line in enumerate(lines) if (m := re.match(r"(\.L\w+):", line))}
    found = {}
    for i, line in enumerate(lines):
        m = re.match(r"\s+(?:j\w+|b\.?\w*|cbn?z|tbn?z)\s.*?(\.L\w+)\s*$", line)
        if m and labels.get(m[1], i) < i:
            found[labels[m[1]]] = max(i, found.get(labels[m[1]], 0))
    return sorted(found.items())


def bodies(lines, product, wanted):
    """Loops with products, as straight lines: one within another is repeated until there are as many as wanted. Before each,
    whether there is none."""
    all_loops = loops(lines)
    for a, b in all_loops:
        inside = [(x, y) for x, y in all_loops if a <= x and y <= b and (x, y) != (a, b)]
        inside = [(x, y) for x, y in inside if count(lines[x:y + 1], product)]
        if not count(lines[a:b + 1], product):
            continue
        if not inside:
            yield True, instructions(lines[a:b + 1])
        elif len(inside) == 1 and not count(lines[inside[0][0]:inside[0][1] + 1], FLOATS):
            x, y = inside[0]
            inner, around = lines[x:y + 1], lines[a:x] + lines[y + 1:b + 1]
            times, rest = divmod(wanted - count(around, product), count(inner, product))
            if times > 0 and rest == 0:
                yield False, instructions(lines[a:x] + times * inner + lines[y + 1:b + 1])


def mca(arch, core, body, iterations):
    """Cycles of one run through a body in the steady state, and what its units alone would take."""
    triple = ["-mtriple=aarch64", "-mattr=+dotprod,+i8mm"] if arch == "arm" else ["-mtriple=x86_64"]
    syntax = ".intel_syntax noprefix\n" if arch == "x86" and any(" ptr " in line for line in body) else ""
    command = [MCA, *triple, f"-mcpu={core}", f"-iterations={iterations}", "-instruction-info=0", "-resource-pressure=0"]
    run = subprocess.run(command, input=syntax + "\n".join(body) + "\n", capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{core}: {run.stderr[:2000]}")
    number = lambda key: float(re.search(rf"{key}:\s+([\d.]+)", run.stdout)[1])
    return number("Total Cycles"), number("Block RThroughput")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", nargs="*")
    arguments.add_argument("--asm", action="append", default=[])
    arguments.add_argument("--show", action="store_true")
    options = arguments.parse_args()
    files = dict(given.split("=", 1) for given in options.asm)
    print("| tier | weights | block | products | instructions | core | cycles | limit | share |")
    print("|---|---|---|--:|--:|---|--:|--:|--:|")
    texts = {}
    for arch, tier, name, weights, block, product, values, cores, prefer in LOOPS:
        if options.only and tier not in options.only:
            continue
        if arch not in texts:
            texts[arch] = Path(files.get(arch) or assembly(arch)).read_text()
        work = block[0] * block[1] * block[2]
        wanted = work // values
        found = [body for lines in functions(texts[arch], tier, name) for body in bodies(lines, product, wanted)]
        found = [(plain, body) for plain, body in found if count(body, product) == wanted and count(body, FLOATS)]
        plain = [body for plain, body in found if plain]
        found = plain or [body for _, body in found]
        if not found:
            print(f"{tier} {weights}: no loop of {wanted} {product}", file=sys.stderr)
            continue
        if prefer == "few":
            body = min(found, key=len)
        elif prefer == "wide":
            body = max(found, key=lambda body: count(body, "sadalp|vpmaddwd"))
        else:
            body = max(found, key=lambda body: (count(body, FLOATS), -len(body)))
        if options.show:
            print(f"== {tier} {weights}", *body, sep="\n", file=sys.stderr)
        products = [line for line in body if count([line], product)]
        for i, core in enumerate(cores):
            many = mca(arch, core, body, 300)[0] - mca(arch, core, body, 100)[0]
            cycles, limit = many / 200, mca(arch, core, products, 100)[1]
            head = f"`{tier}` | {weights} | {' × '.join(map(str, block))} | {wanted} | {len(body)}" if i == 0 else "| | | |"
            print(f"| {head} | {core} | {cycles:.0f} | {limit:.0f} | {100 * limit / cycles:.0f} % |")


if __name__ == "__main__":
    main()
