#!/usr/bin/env python3
"""Ours against OpenVINO, PyTorch and candle: tokens per second by instruction set, alternating in one run.

    python3 scripts/compare_frameworks.py

One command: it makes a virtual environment with torch, transformers, openvino and nncf in a cache folder, builds
scripts/candle for this processor and our programs, makes a random-weight 0.6B model of each kind, measures, and writes a
table and every sample into benches/record/. Needs cargo and pip; Linux on x86-64.

- OpenVINO: weights of 8 bits (nncf, symmetric) with dynamic quantization of activations; bfloat16 as precision on AMX, else
  float32. `ONEDNN_MAX_CPU_ISA` holds it to the tier. Held to plain AVX2 it finds no product for these weights, so there is
  no figure.
- PyTorch: `Qwen3Model` of transformers without a cache, float32 (AVX2, AVX-512) or bfloat16 (AMX); held to the tier by the
  same, `ATEN_CPU_CAPABILITY` and `MKL_ENABLE_INSTRUCTIONS`.
- candle: `quantized_qwen3` on our Q4_K_M file. Its quantized products are AVX2 whatever the processor has, and it takes
  texts one after another, so it runs once, beside our AVX2 tier, one text at a time.

Ours runs Q4_K_M and Q8_0. All are warm at once, weights in memory; a round times each of them in turn, the next one in
reverse order.
"""

import argparse
import datetime
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from compare_llama_cpp import ROOT, Failed, Ours, available_tiers, build_ours, default_cache, machine, run, spread
from compare_llama_cpp import verdict, write_record

# Texts of a batch, tokens of each.
WORKLOADS = {"1x512": (1, 512), "8x512": (8, 512)}
# Tier -> rivals, and what holds them to it.
TIERS = {
    "avx2": (
        ["torch-f32", "candle"],
        {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    ),
    "avxvnni": (["openvino-f32"], {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}),
    "avx512vnni": (
        ["torch-f32", "openvino-f32"],
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "ATEN_CPU_CAPABILITY": "avx512", "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    ),
    "amx": (["torch-bf16", "openvino-bf16"], {}),
}
# (tier, rival) -> how many times its speed our Q4_K_M is to have at 8x512.
TARGETS = {
    ("avx2", "torch-f32"): 1.7,
    ("avxvnni", "openvino-f32"): 1.4,
    ("avx512vnni", "openvino-f32"): 1.5,
    ("amx", "openvino-bf16"): 2.0,
}
PACKAGES = ["torch", "transformers", "openvino", "nncf"]
# Tokens a second of the slowest, to say beforehand how long it will take.
USUAL = {"torch-f32": 150, "torch-bf16": 700, "openvino-f32": 250, "openvino-bf16": 900, "candle": 80}


def model(torch):
    """`Qwen3Model` with the 0.6B shapes and random weights."""
    from transformers import Qwen3Config, Qwen3Model

    shapes = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16}
    shapes |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151669, "max_position_embeddings": 32768}
    torch.manual_seed(1)
    return Qwen3Model(Qwen3Config(**shapes, use_cache=False)).eval()


def export_openvino(file):
    """The model as OpenVINO's, with weights of 8 bits."""
    import nncf
    import openvino
    import torch

    ids = torch.ones((1, 16), dtype=torch.int64)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    converted = openvino.convert_model(model(torch), example_input=example)
    openvino.save_model(nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM), file)


def serve(rival, texts, tokens, threads, file):
    """Answers each line of standard input with the tokens per second of a pass."""
    engine, precision = rival.split("-")
    if engine == "torch":
        import torch

        torch.set_num_threads(threads)
        with torch.inference_mode():
            net = model(torch).to({"f32": torch.float32, "bf16": torch.bfloat16}[precision])
        ids = torch.arange(texts * tokens).reshape(texts, tokens) * 7 % 1000

        def forward():
            with torch.inference_mode():
                net(input_ids=ids, use_cache=False).last_hidden_state[:, -1].float().numpy()
    else:
        import numpy
        import openvino

        hint = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        hint |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}
        net = openvino.Core().compile_model(str(file), "CPU", hint)
        ids = numpy.arange(texts * tokens).reshape(texts, tokens) * 7 % 1000
        inputs = {"input_ids": ids, "attention_mask": numpy.ones_like(ids)}

        def forward():
            net(inputs)[0][:, -1].copy()

    forward()
    for _ in sys.stdin:
        start = time.perf_counter()
        forward()
        print(f"{texts * tokens / (time.perf_counter() - start):.2f}", flush=True)


class Rival:
    """A warm process that answers each line with its speed."""

    def __init__(self, command, environment):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(list(map(str, command)), text=True, bufsize=1, env=environment, **pipes)

    speed, close = Ours.speed, Ours.close


def install(cache):
    """The interpreter of a virtual environment with the frameworks, and candle's program."""
    python = cache / "venv" / "bin" / "python"
    if not (cache / "venv" / "complete").exists():
        run([sys.executable, "-m", "venv", cache / "venv"])
        run([python, "-m", "pip", "install", *PACKAGES])
        (cache / "venv" / "complete").touch()
    manifest = ROOT / "scripts" / "candle" / "Cargo.toml"
    native = {**os.environ, "RUSTFLAGS": "-C target-cpu=native"}
    candle = ["cargo", "build", "--release", "--locked", "--manifest-path", manifest, "--target-dir", cache / "candle"]
    run(candle, env=native)
    if not (cache / "0.6b-int8.xml").exists():
        run([python, __file__, "--export", cache / "0.6b-int8.xml"])
    return python, cache / "candle" / "release" / "candle-speed"


def measure(start, rounds):
    """Samples of a workload: {engine: [tokens/s]}."""
    engines = {name: begin() for name, begin in start.items()}
    samples = {name: [] for name in engines}
    # Nobody is timed while another still loads.
    for engine in engines.values():
        engine.speed()
    for index in range(rounds):
        for name in list(engines) if index % 2 == 0 else reversed(engines):
            samples[name].append(engines[name].speed())
            print(f"{index + 1}/{rounds}: {name} {samples[name][-1]:.1f}", file=sys.stderr)
    for engine in engines.values():
        engine.close()
    return samples


def table(samples):
    """Markdown rows of {(tier, workload): {engine: [tokens/s]}}; ratios are of our median to theirs."""
    lines = ["| tier | workload | engine | tokens/s | our Q4_K_M / it | target | our Q8_0 / it |"]
    lines.append("|---|---|---|" + "---:|" * 4)
    for (tier, workload), engines in samples.items():
        ours = [statistics.median(engines[name]) for name in ("Q4_K_M", "Q8_0")]
        for name, figures in engines.items():
            small, large = (middle / statistics.median(figures) for middle in ours)
            target = TARGETS.get((tier, name)) if workload == "8x512" else None
            row = [tier, workload, name if "-" in name or name == "candle" else f"qembed-q {name}", spread(figures)]
            lines.append(f"| {' | '.join([*row, f'{small:.2f}', verdict(small, target), f'{large:.2f}'])} |")
    return "\n".join(lines) + "\n"


def seconds(tier, workload, rounds):
    """About how long a workload of a tier takes, with the start of each engine and a pass to warm it up."""
    texts, tokens = WORKLOADS[workload]
    # Ours are as fast as the faster rivals.
    engines = rivals(tier, workload) + ["openvino-f32"] * 2
    return sum(12 + (rounds + 1) * texts * tokens / USUAL[rival] for rival in engines)


def rivals(tier, workload):
    return [rival for rival in TIERS[tier][0] if rival != "candle" or workload == "1x512"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiers", nargs="+", choices=TIERS, help="default: all of this machine")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    cache = {"type": Path, "metavar": "DIR", "help": "default: %(default)s"}
    parser.add_argument("--cache", default=default_cache("frameworks"), **cache)
    parser.add_argument("--models", default=default_cache("llama.cpp"), **cache)
    parser.add_argument("--record", type=Path, default=ROOT / "benches" / "record", metavar="DIR")
    parser.add_argument("--name", default=f"{datetime.date.today()}-frameworks", help="of the record; default: %(default)s")
    parser.add_argument("--no-record", action="store_true", help="only print the table")
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.export:
        return export_openvino(args.export)
    if args.serve:
        rival, texts, tokens, threads, file = args.serve
        return serve(rival, int(texts), int(tokens), int(threads), file)

    cpuinfo = Path("/proc/cpuinfo").read_text()
    todo = [(tier, workload) for tier in args.tiers or available_tiers(cpuinfo) for workload in args.workloads]
    print(f"about {sum(seconds(*cell, args.rounds) for cell in todo) / 60:.0f} minutes", file=sys.stderr)
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
        args.models.mkdir(parents=True, exist_ok=True)
        python, candle = install(args.cache)
        programs, files = build_ours(args.models, ["Q4_K_M", "Q8_0"])
        ask = "from importlib.metadata import version; print(*(f'{name} {version(name)}' for name in %s), sep=', ')" % PACKAGES
        versions = subprocess.check_output([str(python), "-c", ask], text=True).strip()
        head = f"# Against frameworks, {datetime.date.today()}\n\n`python3 scripts/compare_frameworks.py {' '.join(sys.argv[1:])}`: "
        head += f"{machine(cpuinfo, args.threads)}; {versions}, candle 0.11.1; 0.6B shapes, random weights. "
        head += f"Tokens a second: median (lowest–highest) of {args.rounds} alternating rounds.\n\n"
        samples = {}
        for tier, workload in todo:
            texts, tokens = WORKLOADS[workload]
            environment = {**os.environ, **TIERS[tier][1]}
            environment |= {name: str(args.threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "MKL_NUM_THREADS")}
            start = {
                name: lambda file=file: Ours(programs / "speed", file, tier, args.threads, (texts, tokens, 1))
                for name, file in files.items()
            }
            for rival in rivals(tier, workload):
                words = [python, __file__, "--serve", rival, texts, tokens, args.threads, args.cache / "0.6b-int8.xml"]
                words = [candle, files["Q4_K_M"], texts, tokens] if rival == "candle" else words
                start[rival] = lambda words=words: Rival(words, environment)
            samples[tier, workload] = measure(start, args.rounds)
            if not args.no_record:
                write_record(args.record, args.name, head + table(samples), samples, ["tier", "workload"])
        print(head + table(samples))
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"compare_frameworks.py: {error}")


if __name__ == "__main__":
    main()
