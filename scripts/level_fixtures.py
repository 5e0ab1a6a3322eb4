#!/usr/bin/env python3
"""Writes models/tests/data/levels.txt: which type `llama-quantize` gives each tensor, by level and shape.

    level_fixtures.py path/to/llama-quantize > models/tests/data/levels.txt

The models are headers alone over a hole in a sparse file, so that the 8B shapes take no space; `--dry-run` reads no
weights. A line: shape, level, tensor kind, and the types of layers 0, 1, … as TYPExCOUNT.

Needs: numpy and gguf (requirements.txt), llama-quantize of llama.cpp (compare_llama_cpp.py says how it is installed).
"""

import itertools
import os
import re
import subprocess
import sys
import tempfile

import gguf
import numpy

# layers, hidden, feed-forward, heads, vocabulary; 8 key-value heads of 128. `odd`: rows that are not whole blocks.
SHAPES = {
    "0.6b": (28, 1024, 3072, 16, 151_669),
    "4b": (36, 2560, 9728, 32, 151_665),
    "8b": (36, 4096, 12_288, 32, 151_665),
    "odd": (20, 288, 816, 8, 512),
}
LEVELS = (
    "Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_0 Q4_1 Q4_K_S Q4_K_M Q5_0 Q5_1 Q5_K_S Q5_K_M Q6_K Q8_0 F16 BF16 F32"
).split()


def write(path, layers, hidden, ffn, heads, vocabulary):
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(layers)
    writer.add_context_length(32768)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(8)
    writer.add_key_length(128)
    writer.add_value_length(128)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{i}" for i in range(vocabulary)])
    writer.add_token_types([1] * vocabulary)
    writer.add_token_merges(["a b"])

    def tensor(name, *shape):
        kind = numpy.dtype(numpy.float16 if len(shape) > 1 else numpy.float32)
        writer.add_tensor_info(name, shape, kind, int(numpy.prod(shape)) * kind.itemsize)

    tensor("output_norm.weight", hidden)
    tensor("token_embd.weight", vocabulary, hidden)
    for layer in range(layers):
        for kind, *shape in (
            ("attn_norm", hidden), ("attn_q_norm", 128), ("attn_k_norm", 128), ("ffn_norm", hidden),
            ("attn_q", heads * 128, hidden), ("attn_k", 1024, hidden), ("attn_v", 1024, hidden),
            ("attn_output", hidden, heads * 128), ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden), ("ffn_down", hidden, ffn),
        ):
            tensor(f"blk.{layer}.{kind}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    aligned = lambda size: (size + 31) // 32 * 32
    data = sum(aligned(info.nbytes) for info in writer.tensors[0].values())
    writer.close()
    os.truncate(path, aligned(os.path.getsize(path)) + data)


def main(program):
    line = re.compile(r"\] +(\S+)\.weight .*type = +(\w+), size = .*?MiB(?: -> .*\((\w+)\))?")
    with tempfile.TemporaryDirectory() as folder:
        for shape, numbers in SHAPES.items():
            path = f"{folder}/{shape}.gguf"
            write(path, *numbers)
            for level in LEVELS:
                run = subprocess.run([program, "--dry-run", path, level], capture_output=True, text=True, check=True)
                kinds = {}
                for name, before, after in line.findall(run.stdout + run.stderr):
                    layer, kind = re.fullmatch(r"(?:blk\.(\d+)\.)?(.*)", name).groups()
                    kinds.setdefault(kind, {})[int(layer or 0)] = (after or before).upper()
                if len(kinds) != 13:
                    sys.exit(f"{shape} {level}: expected 13 kinds of tensors, got {sorted(kinds)}\n{run.stderr}")
                for kind, types in kinds.items():
                    runs = itertools.groupby(types[layer] for layer in range(len(types)))
                    print(shape, level, kind, *(f"{name}x{len(list(same))}" for name, same in runs))


if __name__ == "__main__":
    main(sys.argv[1])
