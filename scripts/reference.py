#!/usr/bin/env python3
"""The float32 oracle: what a Qwen3-Embedding GGUF file means, computed by Hugging Face `transformers`.

Every tensor is dequantized to float32 by the `gguf` package and run through the reference decoder layers, so the
result holds the file's quantization error and none of an engine's: an engine is judged against it, never the reverse.
Each text runs on its own (no padding, no batch), and the vector is the last token's final-normed hidden state,
scaled to length one.

One layer is in memory at a time and embedding rows are dequantized on lookup, so a 4B or 8B file needs about 1 GB
of memory on top of its mapping. A hyperparameter that is missing or unsupported is an error, never a default.

    reference.py --gguf model.gguf --ids ids.json --out vectors.json       ids.json: [[1944, 151643], ...]
    reference.py --gguf model.gguf --texts texts.txt --out vectors.json    one text a line, or a JSON list in *.json

Needs: torch, transformers, gguf, numpy.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, Qwen3RMSNorm, Qwen3RotaryEmbedding

ARCHITECTURE = "qwen3"
END_OF_TEXT = "<|endoftext|>"

# GGUF name inside `blk.N.` -> name inside a Hugging Face decoder layer. Qwen3 files store q and k unpermuted.
LAYER_TENSORS = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
# The pre-tokenizer that `tokenizer.ggml.pre = qwen2` stands for.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class OracleError(Exception):
    """The file or the input cannot be used; the message says why."""


class GgufModel:
    """A mapped GGUF file of architecture qwen3: its configuration and its tensors, dequantized on demand."""

    def __init__(self, path):
        self.path = Path(path)
        reader = GGUFReader(self.path)
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        architecture = self.field("general.architecture")
        if architecture != ARCHITECTURE:
            raise OracleError(f"{path}: architecture is {architecture!r}, expected {ARCHITECTURE!r}")
        self.config = self._read_config()
        self._check_tensor_names()

    def field(self, key):
        """The value of a metadata key."""
        if key not in self._fields:
            raise OracleError(f"{self.path}: metadata key {key} is missing")
        return self._fields[key].contents()

    def tensor(self, name):
        """A whole tensor as float32, outermost dimension first."""
        return self._dequantized(self._tensor(name), slice(None))

    def embedding_rows(self, ids):
        """The `token_embd` rows of `ids`, shape [len(ids), hidden]; no other row is dequantized."""
        return self._dequantized(self._tensor("token_embd.weight"), np.asarray(ids))

    def raw_tensors(self):
        """(name, stored data) of every tensor, sorted by name."""
        return [(name, self._tensors[name].data) for name in sorted(self._tensors)]

    def layer(self, index):
        """Decoder layer `index` with its weights in float32."""
        with torch.device("meta"):
            layer = Qwen3DecoderLayer(self.config, index)
        weights = {theirs: self.tensor(f"blk.{index}.{ours}") for ours, theirs in LAYER_TENSORS.items()}
        layer.load_state_dict(weights, strict=True, assign=True)
        return layer.eval()

    def final_norm(self):
        """The RMSNorm that follows the last layer."""
        norm = Qwen3RMSNorm(self.config.hidden_size, eps=self.config.rms_norm_eps)
        norm.load_state_dict({"weight": self.tensor("output_norm.weight")}, strict=True)
        return norm.eval()

    def _read_config(self):
        def hyperparameter(name):
            return self.field(f"{ARCHITECTURE}.{name}")

        scaling = self._fields.get(f"{ARCHITECTURE}.rope.scaling.type")
        if scaling is not None and scaling.contents() != "none":
            raise OracleError(f"{self.path}: RoPE scaling {scaling.contents()!r} is not supported")
        head_dim = hyperparameter("attention.key_length")
        if f"{ARCHITECTURE}.attention.value_length" in self._fields:
            value_dim = hyperparameter("attention.value_length")
            if value_dim != head_dim:
                raise OracleError(f"{self.path}: value length {value_dim} differs from key length {head_dim}")
        return Qwen3Config(
            vocab_size=int(self._tensor("token_embd.weight").shape[1]),
            num_hidden_layers=hyperparameter("block_count"),
            hidden_size=hyperparameter("embedding_length"),
            intermediate_size=hyperparameter("feed_forward_length"),
            num_attention_heads=hyperparameter("attention.head_count"),
            num_key_value_heads=hyperparameter("attention.head_count_kv"),
            head_dim=head_dim,
            rms_norm_eps=float(hyperparameter("attention.layer_norm_rms_epsilon")),
            rope_parameters={"rope_type": "default", "rope_theta": float(hyperparameter("rope.freq_base"))},
            max_position_embeddings=hyperparameter("context_length"),
            attn_implementation="sdpa",
        )

    def _check_tensor_names(self):
        """A tensor that this script would ignore (a bias, say) would make the oracle quietly wrong."""
        known = {"token_embd.weight", "output_norm.weight", "output.weight"}
        for index in range(self.config.num_hidden_layers):
            known.update(f"blk.{index}.{name}" for name in LAYER_TENSORS)
        unknown = sorted(set(self._tensors) - known)
        if unknown:
            raise OracleError(f"{self.path}: {len(unknown)} unknown tensors, among them {unknown[0]}")

    def _tensor(self, name):
        if name not in self._tensors:
            raise OracleError(f"{self.path}: tensor {name} is missing")
        return self._tensors[name]

    @staticmethod
    def _dequantized(tensor, rows):
        values = dequantize(np.ascontiguousarray(tensor.data[rows]), tensor.tensor_type)
        return torch.from_numpy(np.array(values, dtype=np.float32))


@torch.inference_mode()
def embed(model, id_lists, log=lambda line: None):
    """L2-normalized vectors of the token-id lists: float32 array of shape [len(id_lists), hidden]."""
    check_ids(model, id_lists)
    rotary = Qwen3RotaryEmbedding(model.config)
    states = [model.embedding_rows(ids).unsqueeze(0) for ids in id_lists]
    positions = [torch.arange(len(ids)).unsqueeze(0) for ids in id_lists]
    for index in range(model.config.num_hidden_layers):
        started = time.monotonic()
        layer = model.layer(index)
        for text, state in enumerate(states):
            # No mask given: the attention is causal over this text alone.
            rotation = rotary(state, positions[text])
            states[text] = layer(state, position_embeddings=rotation, position_ids=positions[text])
        del layer
        log(f"layer {index + 1}/{model.config.num_hidden_layers}: {time.monotonic() - started:.1f} s")
    last = model.final_norm()(torch.cat([state[0, -1:] for state in states]))
    vectors = torch.nn.functional.normalize(last, dim=-1).numpy()
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if broken.size:
        raise OracleError(f"the vector of text {broken[0]} is not finite")
    return vectors


def check_ids(model, id_lists):
    """Rejects what has no vector: an empty list, an id outside the vocabulary, a text longer than the context."""
    if not id_lists:
        raise OracleError("no texts given")
    for text, ids in enumerate(id_lists):
        if not ids:
            raise OracleError(f"text {text} has no tokens")
        if len(ids) > model.config.max_position_embeddings:
            limit = model.config.max_position_embeddings
            raise OracleError(f"text {text} has {len(ids)} tokens, the context is {limit}")
        outside = [token for token in ids if not 0 <= token < model.config.vocab_size]
        if outside:
            raise OracleError(f"text {text}: id {outside[0]} is outside the vocabulary of {model.config.vocab_size}")


def tokenize(model, texts):
    """Token ids of texts by the file's own vocabulary: NFC, byte-level BPE, `<|endoftext|>` appended once.

    Text that looks like a special token is plain text.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    for key, expected in (("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "qwen2")):
        if model.field(key) != expected:
            raise OracleError(f"{model.path}: {key} is {model.field(key)!r}, expected {expected!r}")
    vocabulary = {token: index for index, token in enumerate(model.field("tokenizer.ggml.tokens"))}
    merges = [tuple(merge.split(" ", 1)) for merge in model.field("tokenizer.ggml.merges")]
    if END_OF_TEXT not in vocabulary:
        raise OracleError(f"{model.path}: the vocabulary has no {END_OF_TEXT}")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    return [tokenizer.encode(text).ids + [vocabulary[END_OF_TEXT]] for text in texts]


def read_texts(path):
    """A JSON list of strings from `*.json`, otherwise one text a line."""
    content = Path(path).read_text(encoding="utf-8")
    if Path(path).suffix != ".json":
        return content.removesuffix("\n").split("\n")
    texts = json.loads(content)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OracleError(f"{path}: expected a JSON list of strings")
    return texts


def read_ids(path):
    """A JSON list of lists of token ids."""
    id_lists = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(id_lists, list) or not all(
        isinstance(ids, list) and all(type(token) is int for token in ids) for ids in id_lists
    ):
        raise OracleError(f"{path}: expected a JSON list of lists of token ids")
    return id_lists


def json_floats(vector):
    """A float32 vector as a JSON list with the fewest digits that read back as the same float32."""
    return "[" + ",".join(str(value) for value in np.asarray(vector, dtype=np.float32)) + "]"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", required=True, metavar="FILE", help="the model")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ids", metavar="FILE", help="JSON list of token-id lists")
    source.add_argument("--texts", metavar="FILE", help="one text a line, or a JSON list of strings in *.json")
    parser.add_argument("--out", required=True, metavar="FILE", help='written as {"ids": [...], "vectors": [...]}')
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's own choice)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    try:
        model = GgufModel(args.gguf)
        id_lists = read_ids(args.ids) if args.ids else tokenize(model, read_texts(args.texts))
        print(f"{len(id_lists)} texts, {sum(map(len, id_lists))} tokens", file=sys.stderr)
        vectors = embed(model, id_lists, log=lambda line: print(line, file=sys.stderr))
    except (OracleError, OSError, ValueError) as error:
        sys.exit(f"reference.py: {error}")
    with open(args.out, "w", encoding="utf-8") as out:
        ids = ",\n".join(json.dumps(ids, separators=(",", ":")) for ids in id_lists)
        rows = ",\n".join(json_floats(vector) for vector in vectors)
        out.write(f'{{"ids": [\n{ids}\n],\n"vectors": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
