#!/usr/bin/env python3
"""Files of `qembed-q quantize` opened by llama.cpp: whose vectors are nearer to what the file means, ours or its?

    compare_levels.py --vocab vocabulary.gguf --shape small                              every level, small matrices
    compare_levels.py --vocab vocabulary.gguf --shape 0.6b --levels Q4_K_M Q5_K_M Q6_K Q8_0
    compare_levels.py --vocab vocabulary.gguf --shape 0.6b --levels Q4_K_M Q5_K_M --alone          without llama.cpp

A random-weight F16 file is written and quantized to each level by ours. Of each file, three sets of vectors of the same token
ids: the float32 reference (reference.py), llama.cpp's (last token), and ours on each instruction set. A table and every cosine go
into benches/record/.

Exit status 1 when on a file our worst or mean cosine to the reference is below llama.cpp's, or when any two sets are
further apart than `--min-cosine`. Its default: llama.cpp rounds a product's input to 8 bits, 1 part in 127 of the largest of 256
values; for normal values, four standard deviations at most, that is a relative error of 4 / 127 / sqrt(12) = 0.9 %. Four such inputs
a layer add up as squares, over 28 layers to 9.6 % at most: a cosine of 1 - 0.096² / 2 = 0.9954.

Texts are the bundled ones of `qembed-q bench`: queries, passages, and passages joined to long texts. Needs
requirements.txt and, unless `--alone`, llama-cpp-python (built for this machine: CC=clang-19 CXX=clang++-19 CMAKE_ARGS=-DGGML_NATIVE=ON).
"""

import argparse
import csv
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch

import reference
from compare_vectors import cosine

try:
    import llama_cpp
except ImportError:
    llama_cpp = None

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "small": "tiny,layers=4,hidden=256,ffn=768,heads=4,kv_heads=2,head_dim=128,vocab=151936",
    "0.6b": "0.6b",
}
LEVELS = "Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_0 Q4_K_S Q4_K_M Q4_1 Q5_0 Q5_K_S Q5_K_M Q5_1 Q6_K Q8_0 F16 BF16".split()
REFERENCE, LLAMA = "reference", "llama.cpp"


def mixed_texts(count):
    """Queries, passages and, one in eight, six passages in one; spread evenly over the bundled set."""
    lines = (ROOT / "src/cli/bench/texts.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [[field.replace("\\n", "\n") for field in line.split("\t")[1:]] for line in lines]
    texts = []
    for i in range(count):
        at = i * len(pairs) // count
        joined = "\n\n".join(passage for _, passage in (pairs + pairs)[at : at + 6])
        texts.append(joined if i % 8 == 7 else pairs[at][i % 2])
    return texts


class LlamaCpp:
    """A model opened by llama.cpp, with a context that pools the last token."""

    def __init__(self, path, longest, threads):
        llama_cpp.llama_backend_init()
        self._log = llama_cpp.llama_log_callback(lambda *_: None)  # its loader talks a lot
        llama_cpp.llama_log_set(self._log, None)
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not open {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = longest
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = True
        params.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_LAST
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.width = llama_cpp.llama_model_n_embd(self.model)

    def embed(self, ids):
        """The vector of a text, length one."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama.cpp's pass failed")
        llama_cpp.llama_batch_free(batch)
        vector = numpy.array(llama_cpp.llama_get_embeddings_seq(self.context, 0)[: self.width])
        return vector / numpy.linalg.norm(vector)

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def run(command):
    """Standard output of a command; its standard error goes to ours."""
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def instruction_sets(program, gguf, wanted):
    """What was asked for, or the best of this machine and avx2."""
    best = next(line.split()[2] for line in run([program, "info", "--gguf", gguf]).splitlines() if line.startswith("instruction set"))
    return list(dict.fromkeys(best if name == "best" else name for name in wanted))


def vectors_of(gguf, texts, program, tiers, threads, alone):
    """Of each engine, the vectors; and the number of tokens of each text."""
    model = reference.GgufModel(gguf)
    id_lists = reference.tokenize(model, texts)
    vectors = {REFERENCE: reference.embed(model, id_lists)}
    if not alone:
        theirs = LlamaCpp(gguf, max(map(len, id_lists)), threads)
        vectors[LLAMA] = [theirs.embed(ids) for ids in id_lists]
        theirs.close()
    for tier in tiers:
        vectors[tier] = json.loads(run([program, "--gguf", gguf, "--isa", tier, "--threads", threads, "--", *texts]))
    return {engine: [[float(x) for x in vector] for vector in found] for engine, found in vectors.items()}, list(map(len, id_lists))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", required=True, type=Path, help="GGUF file with Qwen's tokenizer")
    parser.add_argument("--bin", default=ROOT / "target/release", type=Path, help="folder of a release build, with examples/synth")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--from", dest="source", type=Path, metavar="F16.gguf", help="the file to quantize (default: written anew)")
    parser.add_argument("--levels", nargs="+", default=LEVELS, metavar="LEVEL")
    parser.add_argument("--isa", nargs="+", default=["best", "avx2"], metavar="NAME")
    parser.add_argument("--texts", type=int, default=64, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--min-cosine", type=float, default=0.9954, metavar="X")
    parser.add_argument("--alone", action="store_true", help="leave llama.cpp out, and write no record")
    parser.add_argument("--record", type=Path, default=ROOT / "benches/record", help="folder of the record")
    args = parser.parse_args()
    if not args.alone and llama_cpp is None:
        parser.error("llama-cpp-python is not installed; --alone does without it")
    torch.set_num_threads(args.threads)

    program, texts = args.bin / "qembed-q", mixed_texts(args.texts)
    rows, samples, failures = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        source = args.source or Path(folder) / "f16.gguf"
        if not args.source:
            run([args.bin / "examples/synth", "--shape", SHAPES[args.shape], "--type", "F16", "--vocab", args.vocab, "--out", source])
        tiers = instruction_sets(program, source, args.isa)
        for level in args.levels:
            gguf = Path(folder) / f"{level}.gguf"
            run([program, "quantize", source, gguf, "--type", level])
            vectors, tokens = vectors_of(gguf, texts, program, tiers, args.threads, args.alone)
            gguf.unlink()
            pairs = [(a, b) for b in [LLAMA, *tiers] for a in (REFERENCE, LLAMA) if a in vectors and b in vectors and a != b]
            cosines = {pair: [cosine(*both) for both in zip(*(vectors[name] for name in pair), strict=True)] for pair in pairs}
            summary = {pair: (min(found), statistics.fmean(found)) for pair, found in cosines.items()}
            rows.append((level, summary))
            samples += [[level, i, tokens[i], *(f"{found[i]:.7f}" for found in cosines.values())] for i in range(len(texts))]
            failures += [f"{level}: {a} and {b} are at {worst:.6f}" for (a, b), (worst, _) in summary.items() if not worst >= args.min_cosine]
            theirs = summary.get((REFERENCE, LLAMA), (0, 0))
            for tier in tiers:
                if any(not ours >= their for ours, their in zip(summary[REFERENCE, tier], theirs)):
                    failures.append(f"{level}: {tier} is further from the reference than llama.cpp: {summary[REFERENCE, tier]}, {theirs}")
            print(level, summary, flush=True, file=sys.stderr)

    if args.alone:
        for level, summary in rows:
            print(level, *(f"{name} {worst:.6f} / {mean:.6f}" for (_, name), (worst, mean) in summary.items()))
        return int(bool(failures))
    day = datetime.date.today().isoformat()
    info = Path("/proc/cpuinfo").read_text()
    processor = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "unknown processor")
    features = llama_cpp.llama_print_system_info().decode().strip().strip("|").replace(" | ", ", ").strip()
    options = f"--shape {args.shape}" + ("" if args.levels == LEVELS else f" --levels {' '.join(args.levels)}")
    options += f" --isa {' '.join(args.isa)}"
    short = sum(count <= 64 for count in tokens)
    lines = [
        f"# Files of `quantize` in llama.cpp, {args.shape} shapes, {day}\n",
        f"`python scripts/compare_levels.py --vocab VOCABULARY.gguf {options}`: {processor}; llama-cpp-python {llama_cpp.__version__} ({features}). "
        f"{len(texts)} texts, {min(tokens)} to {max(tokens)} tokens, {short} of them up to 64; random weights. Cosine: worst / mean.\n",
        "| level | llama.cpp to reference | " + " | ".join(f"ours ({tier}) to reference" for tier in tiers) + " | " + " | ".join(f"ours ({tier}) to llama.cpp" for tier in tiers) + " |",
        "|---" * (2 + 2 * len(tiers)) + "|",
    ]
    for level, summary in rows:
        columns = [(REFERENCE, LLAMA)] + [(REFERENCE, tier) for tier in tiers] + [(LLAMA, tier) for tier in tiers]
        lines.append(f"| {level} | " + " | ".join("{:.6f} / {:.6f}".format(*summary[pair]) for pair in columns) + " |")
    lines.append("")
    lines += [f"- **Fails**: {failure}" for failure in failures] or [
        "On every file, llama.cpp opens it and agrees; our worst and mean cosine to the reference are at least its."
    ]
    record = "\n".join(lines) + "\n"
    print(record)
    args.record.mkdir(parents=True, exist_ok=True)
    name = f"{day}-levels-llama.cpp-{args.shape}"
    (args.record / f"{name}.md").write_text(record, encoding="utf-8")
    with open(args.record / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["level", "text", "tokens", *(f"{b} to {a}" for a, b in pairs)])
        writer.writerows(samples)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
