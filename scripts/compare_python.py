#!/usr/bin/env python3
"""Embedding from Python: ours beside sentence-transformers, fastembed and llama-cpp-python, on the same random weights of the 0.6B's shape.

    scripts/get_vocabulary.py
    scripts/build_wheel.sh
    pip install target/wheels/*.whl sentence-transformers fastembed onnx onnxscript llama-cpp-python gguf   # llama.cpp is compiled: a quarter of an hour
    scripts/compare_python.py --record

Makes a model with `transformers` (6 GB in a temporary folder), a GGUF file of it with `qembed-q convert` and two levels with `quantize`, an ONNX file of
it with `torch` and its int8 with `onnxruntime`. Each engine runs in a process of its own and answers by turns, --rounds times; medians. Texts are words of docs/kernels.md.

- sentence-transformers in float32, and with its linear layers in dynamic int8 (torch);
- llama-cpp-python and ours on the same files, Q4_K_M and Q8_0;
- fastembed on the ONNX file in float32, and with its matrices in dynamic int8 (onnxruntime), a scale for each channel.

Import is `import` alone in a warm process tree, open is until the model is ready. Memory is the peak of what is the process's own (RssAnon: weights
that were read or repacked, activations) and of all that it touches (VmHWM: with the pages of a mapped file, which the system may take back).
"""

import argparse
import datetime
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Words a text, texts: some 32 and 512 tokens.
WORKLOADS = {"32 tokens": (14, 32), "512 tokens": (230, 4)}
ENGINES = ["ours Q4_K_M", "ours Q8_0", "llama-cpp-python Q4_K_M", "llama-cpp-python Q8_0"]
ENGINES += [f"{name} {level}" for name in ("sentence-transformers", "fastembed") for level in ("float32", "int8")]
PACKAGES = ["qembed-q", "sentence-transformers", "torch", "fastembed", "onnxruntime", "llama-cpp-python"]


def texts():
    draw = random.Random(1)
    words = (ROOT / "docs/kernels.md").read_text(encoding="utf-8").split()
    return {name: [" ".join(draw.choices(words, k=length)) for _ in range(count)] for name, (length, count) in WORKLOADS.items()}


def opened(engine, folder, threads):
    """Import and open; a function from texts to vectors, and the seconds of both."""
    name, level = engine.split(" ")
    began = time.perf_counter()
    if name == "ours":
        from qembed_q import Embedder

        imported = time.perf_counter()
        encode = Embedder(folder / f"{level}.gguf", threads=threads).encode
    elif name == "llama-cpp-python":
        import llama_cpp

        imported = time.perf_counter()
        model = llama_cpp.Llama(
            str(folder / f"{level}.gguf"), embedding=True, n_ctx=2048, n_batch=2048, n_ubatch=2048, n_threads=threads,
            n_threads_batch=threads, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_LAST, verbose=False,
        )
        encode = lambda texts: model.embed(texts, normalize=True)  # llama.cpp adds the end token itself, as the file says
    elif name == "fastembed":
        import fastembed

        imported = time.perf_counter()
        from fastembed.common.model_description import ModelSource, PoolingType

        fastembed.TextEmbedding.add_custom_model(
            level, pooling=PoolingType.LAST_TOKEN, normalization=True, sources=ModelSource(hf="nobody/nothing"), dim=1024, model_file="model.onnx",
        )
        model = fastembed.TextEmbedding(level, specific_model_path=str(folder / "onnx" / level), threads=threads)
        encode = lambda texts: list(model.embed(texts, batch_size=8))
    else:
        import sentence_transformers
        import torch

        imported = time.perf_counter()
        torch.set_num_threads(threads)
        model = sentence_transformers.SentenceTransformer(str(folder / "model"), device="cpu")
        if level == "int8":
            model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        encode = lambda texts: model.encode(texts, batch_size=8)
    return encode, imported - began, time.perf_counter() - imported


def status(field):
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def worker(engine, folder, threads):
    encode, imported, ready = opened(engine, folder, threads)
    print(json.dumps({"import": imported, "open": ready}), flush=True)
    workloads, anonymous = texts(), 0
    for line in sys.stdin:
        began = time.perf_counter()
        vectors = encode(workloads[line.strip()])
        took = time.perf_counter() - began
        anonymous = max(anonymous, status("RssAnon"))
        # The first values tell whether all compute the same.
        print(json.dumps({"took": took, "anonymous": anonymous, "peak": status("VmHWM"), "first": [float(x) for x in vectors[0]]}), flush=True)


def make_models(folder, vocabulary, program):
    import torch
    from compare_convert import END, SHAPES, tokenizer
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

    torch.manual_seed(1)
    words, end = tokenizer(vocabulary)
    words.post_processor = TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    config = Qwen3Config(vocab_size=end + 26, max_position_embeddings=32768, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True, **SHAPES["0.6b"])
    plain = folder / "plain"
    Qwen3Model(config).to(torch.float32).save_pretrained(plain)
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token=END, pad_token=END, padding_side="left").save_pretrained(plain)
    f16 = folder / "F16.gguf"
    subprocess.run([program, "convert", plain, f16, "--type", "F16"], check=True)
    for level in ["Q4_K_M", "Q8_0"]:
        subprocess.run([program, "quantize", f16, folder / f"{level}.gguf", "--type", level], check=True)
    f16.unlink()
    transformer = Transformer(str(plain))
    pooling = Pooling(SHAPES["0.6b"]["hidden_size"], pooling_mode="lasttoken")
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save(str(folder / "model"))


def make_onnx(folder):
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import PreTrainedTokenizerFast, Qwen3Model

    class States(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Qwen3Model.from_pretrained(folder / "plain", attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state

    levels = [folder / "onnx" / level for level in ("float32", "int8")]
    words = PreTrainedTokenizerFast.from_pretrained(folder / "plain", padding_side="right", model_max_length=2048)
    for level in levels:
        words.save_pretrained(level)
        shutil.copy(folder / "plain/config.json", level)
    exact, small = (level / "model.onnx" for level in levels)
    example = (torch.arange(34).reshape(2, 17), torch.ones(2, 17, dtype=torch.int64))
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["last_hidden_state"]}
    with torch.no_grad():
        torch.onnx.export(States(), example, exact, dynamic_shapes=(sizes, sizes), external_data=True, **names)
    how = {"weight_type": QuantType.QInt8, "per_channel": True, "op_types_to_quantize": ["MatMul", "Gemm"]}
    quantize_dynamic(exact, small, use_external_data_format=True, **how)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/qembed-q")
    parser.add_argument("--vocabulary", type=Path, default=ROOT / "target/qwen-vocabulary/ggml-vocab-qwen2.gguf")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--folder", type=Path, help="where models lie or are to lie")
    parser.add_argument("--record", action="store_true", help="write a record to benches/record")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if args.worker:
        return worker(args.worker, args.folder, args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        if not (folder / "model").is_dir():
            make_models(folder, args.vocabulary, args.program.resolve())
        if not (folder / "onnx").is_dir():
            make_onnx(folder)
        from qembed_q import Embedder

        tokens = {name: sum(Embedder(folder / "Q4_K_M.gguf").count(rows)) for name, rows in texts().items()}
        workers, began = {}, {}
        for engine in ENGINES:
            command = [sys.executable, __file__, "--worker", engine, "--folder", folder, "--threads", str(args.threads)]
            workers[engine] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            began[engine] = json.loads(workers[engine].stdout.readline())

        def ask(engine, workload):
            workers[engine].stdin.write(workload + "\n")
            workers[engine].stdin.flush()
            return json.loads(workers[engine].stdout.readline())

        rates = {engine: {workload: [] for workload in WORKLOADS} for engine in ENGINES}
        last = {}
        for turn in range(args.rounds + 1):
            for workload in WORKLOADS:
                for engine in ENGINES if turn % 2 else ENGINES[::-1]:
                    last[engine] = ask(engine, workload)
                    # The first turn warms up.
                    if turn:
                        rates[engine][workload].append(tokens[workload] / last[engine]["took"])
                        print(f"{turn} {workload}, {engine}: {rates[engine][workload][-1]:.0f} tokens/s", file=sys.stderr)
        for process in workers.values():
            process.stdin.close()
            process.wait()
    exact = last["sentence-transformers float32"]["first"]
    head = "| engine | import, s | open, s | " + " | ".join(f"{workload}, tokens/s" for workload in WORKLOADS) + " | own memory, MiB | peak, MiB | cosine to float32 |"
    table = [head, "|---|" + "---|" * (head.count("|") - 2)]
    for engine in ENGINES:
        medians = [f"{statistics.median(rates[engine][workload]):.0f}" for workload in WORKLOADS]
        first = last[engine]["first"]
        cosine = sum(a * b for a, b in zip(first, exact)) / (sum(a * a for a in first) * sum(b * b for b in exact)) ** 0.5
        memory = [f"{last[engine][kind] / 2**20:.0f}" for kind in ("anonymous", "peak")]
        cells = [engine, f"{began[engine]['import']:.2f}", f"{began[engine]['open']:.2f}", *medians, *memory, f"{cosine:.5f}"]
        table.append("| " + " | ".join(cells) + " |")
    print(*table, sep="\n")
    if args.record:
        from importlib.metadata import version

        today = datetime.date.today().isoformat()
        packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        processor = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name"))
        said = f"`scripts/compare_python.py`: {processor}, {args.threads} threads, {args.rounds} rounds, random weights of the 0.6B's shape; {packages}; Python {sys.version.split()[0]}; load {os.getloadavg()[0]:.1f} at the end."
        record = ROOT / f"benches/record/{today}-compare-python.md"
        record.write_text("\n".join([f"# Embedding from Python, {today}", "", said, "", *table, ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
