#!/usr/bin/env python3
"""A folder saved by `transformers`, converted by `qembed-q convert`: are its vectors those of `transformers`?

    compare_convert.py --vocabulary ggml-vocab-qwen2.gguf [--program target/release/qembed-q] [--shape tiny|0.6b]

Random weights in bfloat16; the reference is Qwen3Model in float32 on the tokens that the `tokenizers` package gives, last token,
length 1. Fails below a cosine of 0.99999 for the F32 file.

Needs: requirements.txt.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import Qwen3Config, Qwen3Model

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
END = "<|endoftext|>"
TEXTS = ["test", "The capital of China is Beijing.", "重力是一种力。", "fn main() { println!(\"{}\", 1); }", "naïve café 🙂 " * 20]
SHAPES = {
    "tiny": dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=64),
    "0.6b": dict(hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128),
}


def tokenizer(path):
    fields = gguf.GGUFReader(path).fields
    strings = lambda key: [bytes(fields[key].parts[i]).decode() for i in fields[key].data]
    tokens = strings("tokenizer.ggml.tokens")
    end = tokens.index(END)
    merges = [tuple(merge.split(" ")) for merge in strings("tokenizer.ggml.merges")]
    result = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens[:end])}, merges))
    result.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    result.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens([AddedToken(token, normalized=False) for token in tokens[end : end + 3]])
    return result, end


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", required=True)
    parser.add_argument("--program", default="target/release/qembed-q")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    options = parser.parse_args()
    torch.manual_seed(1)
    words, end = tokenizer(options.vocabulary)
    config = Qwen3Config(vocab_size=end + 26, max_position_embeddings=32768, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True, **SHAPES[options.shape])
    model = Qwen3Model(config).to(torch.bfloat16).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data.normal_(1.0, 0.1)
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "model", Path(folder) / "model.gguf"
        model.save_pretrained(source, max_shard_size="200MB" if options.shape == "0.6b" else "20MB")
        words.save(str(source / "tokenizer.json"))
        parts = len(list(source.glob("*.safetensors")))
        subprocess.run([options.program, "convert", source, output, "--type", "F32"], check=True)
        run = subprocess.run([options.program, "--gguf", output, "--", *TEXTS], check=True, stdout=subprocess.PIPE)
    ours = torch.tensor(json.loads(run.stdout))
    model = model.float()
    worst = 1.0
    for text, own in zip(TEXTS, ours):
        ids = torch.tensor([words.encode(text).ids + [end]])
        with torch.no_grad():
            expected = torch.nn.functional.normalize(model(input_ids=ids).last_hidden_state[0, -1], dim=0)
        worst = min(worst, float(own.double() @ expected.double() / own.double().norm() / expected.double().norm()))
    print(f"{options.shape}, {parts} files of safetensors, {len(TEXTS)} texts: worst cosine {worst:.7f}")
    return 0 if worst >= 0.99999 else 1


if __name__ == "__main__":
    sys.exit(main())
