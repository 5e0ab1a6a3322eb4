"""Writes the student as GGUF files that qembed-q (and llama.cpp) read: `python3 export.py WORK OUT`.

OUT/qembed-builtin-f16.gguf is the master, OUT/qembed-builtin-q8_0.gguf the one that is embedded in the program.
"""

import json
import os
import sys

import gguf
import torch

from prepare import END
from student import load

TYPES = {
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


def tokenizer(writer, path):
    with open(path) as file:
        data = json.load(file)
    ids = dict(data["model"]["vocab"])
    ids.update({token["content"]: token["id"] for token in data["added_tokens"]})
    tokens = sorted(ids, key=ids.get)
    assert [ids[token] for token in tokens] == list(range(len(tokens)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token == END else gguf.TokenType.NORMAL for token in tokens])
    merges = data["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(ids[END])
    writer.add_pad_token_id(ids[END])
    writer.add_add_eos_token(True)
    writer.add_add_bos_token(False)
    return len(tokens)


def without_idle_layers(student):
    """The student less the layers that still change nothing, as all but the last do before their stage of training."""
    busy = [layer for layer in student.blk if layer.attn_output.weight.any() or layer.ffn_down.weight.any()]
    student.blk = torch.nn.ModuleList(busy)
    student.shape.layers = len(busy)
    return student


def export(work, path, type_name):
    student = without_idle_layers(load(f"{work}/student.pt")[0])
    shape = student.shape
    kind, file_type = TYPES[type_name]
    part = path + ".part"
    writer = gguf.GGUFWriter(part, "qwen3")
    writer.add_name("qembed-q built-in")
    writer.add_description("Small English and code embedding model, distilled from all-MiniLM-L6-v2; see its card")
    writer.add_license("Apache-2.0")
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_rope_freq_base(shape.rope)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_pooling_type(gguf.PoolingType.LAST)
    assert tokenizer(writer, f"{work}/tokenizer.json") == shape.vocabulary
    for name, tensor in student.state_dict().items():
        data = tensor.to(torch.float32).numpy()
        if data.ndim == 1:
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(part, path)
    print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB")


def main(work, out):
    os.makedirs(out, exist_ok=True)
    for name in TYPES:
        export(work, f"{out}/qembed-builtin-{name}.gguf", name)


if __name__ == "__main__":
    main(*sys.argv[1:3])
