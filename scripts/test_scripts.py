"""Tests of the oracle and its helpers: `python -m unittest discover -s scripts -p 'test_*.py'`.

The oracle runs layer by layer on rows looked up one by one; here it must agree with the whole `Qwen3Model`, built in
the ordinary way with the other attention implementation.
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import Qwen3Config, Qwen3Model

import check_clients
import golden
import reference

F32, Q8_0, BF16 = (gguf.GGMLQuantizationType[name] for name in ("F32", "Q8_0", "BF16"))
VOCAB, LAYERS, FFN, CONTEXT = 300, 3, 128, 512
ROPE_BASE, EPSILON = 50_000.0, 1e-3  # far from any default


def write_model(path, kind, hidden, heads, kv_heads, head_dim, *, skip=(), extra=(), seed=0):
    """A random model; `skip` names tensors or metadata left out, `extra` tensors added."""
    rng = np.random.default_rng(seed)
    shapes = {"token_embd.weight": (VOCAB, hidden), "output_norm.weight": (hidden,)}
    for block in (f"blk.{index}." for index in range(LAYERS)):
        shapes |= {block + "attn_norm.weight": (hidden,), block + "ffn_norm.weight": (hidden,)}
        shapes |= {block + f"attn_{x}_norm.weight": (head_dim,) for x in "qk"}
        shapes |= {block + f"attn_{x}.weight": (kv_heads * head_dim, hidden) for x in "kv"}
        shapes[block + "attn_q.weight"] = (heads * head_dim, hidden)
        shapes[block + "attn_output.weight"] = (hidden, heads * head_dim)
        shapes |= {block + f"ffn_{x}.weight": (FFN, hidden) for x in ("gate", "up")}
        shapes[block + "ffn_down.weight"] = (hidden, FFN)
    shapes |= {name: (hidden,) for name in extra}

    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    if "layer_norm_rms_epsilon" not in skip:
        writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_context_length(CONTEXT)
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, dtype=np.float32)
        values = 1 + values / 10 if len(shape) == 1 else values / np.sqrt(np.float32(shape[-1]))
        if name not in skip:
            stored = F32 if len(shape) == 1 else kind
            writer.add_tensor(name, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def whole_model_vectors(model, shape, id_lists):
    """The vectors of the ordinary model class, with explicit masks and explicit softmax.

    Its configuration comes from `shape` and its tensor names from the `gguf` package, so that neither is taken on
    the oracle's word.
    """
    _, hidden, heads, kv_heads, head_dim = shape
    config = Qwen3Config(
        vocab_size=VOCAB,
        num_hidden_layers=LAYERS,
        hidden_size=hidden,
        intermediate_size=FFN,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
        attn_implementation="eager",
    )
    whole = Qwen3Model(config).eval()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, LAYERS)
    ours = {key: names.get_name(f"model.{key}", try_suffixes=(".weight",)) for key in whole.state_dict()}
    whole.load_state_dict({key: model.tensor(name) for key, name in ours.items()}, strict=True)
    with torch.inference_mode():
        last = [whole(torch.tensor([ids])).last_hidden_state[0, -1].numpy() for ids in id_lists]
    return np.stack([state / np.linalg.norm(state) for state in last])


class Scripts(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def model(self, *args, **kwargs):
        path = self.scratch / "model.gguf"
        write_model(path, *args, **kwargs)
        return reference.GgufModel(path)

    def test_agrees_with_the_whole_model(self):
        id_lists = [golden.token_ids(length, length, VOCAB) for length in (1, 2, 7, 65, 300)]
        # head_dim above and below hidden / heads; 1, 2 and 4 query heads per key head.
        for shape in ((F32, 96, 4, 2, 64), (Q8_0, 256, 8, 2, 16), (BF16, 64, 2, 2, 32)):
            with self.subTest(shape=shape):
                model = self.model(*shape)
                expected = whole_model_vectors(model, shape, id_lists)
                difference = np.abs(reference.embed(model, id_lists) - expected).max()
                # Two orders of summation in float32 (step 6e-8): far above their noise, far below any real fault.
                self.assertLess(difference, 2e-6)

    def test_refuses_what_it_cannot_run(self):
        shape = (F32, 64, 2, 1, 32)
        with self.assertRaisesRegex(reference.OracleError, "layer_norm_rms_epsilon is missing"):
            self.model(*shape, skip={"layer_norm_rms_epsilon"})
        with self.assertRaisesRegex(reference.OracleError, "unknown tensors, among them blk.0.attn_q.bias"):
            self.model(*shape, extra=["blk.0.attn_q.bias"])
        with self.assertRaisesRegex(reference.OracleError, "tensor blk.2.ffn_up.weight is missing"):
            reference.embed(self.model(*shape, skip={"blk.2.ffn_up.weight"}), [[1]])
        model = self.model(*shape)
        for id_lists, message in (
            ([], "no texts"),
            ([[1], []], "text 1 has no tokens"),
            ([[VOCAB]], "outside the vocabulary"),
            ([[-1]], "outside the vocabulary"),
            ([[0] * (CONTEXT + 1)], "513 tokens, the context is 512"),
        ):
            with self.assertRaisesRegex(reference.OracleError, message):
                reference.embed(model, id_lists)

    def test_ids_are_the_documented_sequence(self):
        self.assertEqual(golden.token_ids(1, 8, 300), [74, 153, 96, 270, 234, 95, 230, 202])

    def test_clients_of_a_requirements_file(self):
        (self.scratch / "a.txt").write_text("# why\none>=2  # why\n\nt-w_o[extra]\n")
        (self.scratch / "b.txt").write_text("-r a.txt\nthree\n")
        self.assertEqual(check_clients.names(self.scratch / "b.txt"), ["one", "t-w_o", "three"])

    def test_what_clients_passed(self):
        report = self.scratch / "report.xml"
        report.write_text(
            '<testsuites><testsuite><testcase classname="clients.test_a" name="x"/><testcase classname="test_a" name="y"><failure/>'
            '</testcase><testcase classname="test_b" name="z"><skipped/></testcase></testsuite></testsuites>'
        )
        # What was skipped has not passed.
        self.assertEqual(check_clients.passed(report), {"a": (1, 1), "b": (0, 1)})

    def test_floats_read_back_exactly(self):
        vector = np.random.default_rng(0).standard_normal(1000, dtype=np.float32)
        self.assertTrue((np.array(json.loads(reference.json_floats(vector)), dtype=np.float32) == vector).all())

    def test_comparison_exit_codes(self):
        def compare(a, b, *options):
            for name, content in (("a.json", a), ("b.json", b)):
                (self.scratch / name).write_text(json.dumps(content))
            script = Path(__file__).with_name("compare_vectors.py")
            command = [sys.executable, script, self.scratch / "a.json", self.scratch / "b.json", *options]
            return subprocess.run(command, capture_output=True).returncode

        openai = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 0]}]}
        self.assertEqual(compare({"vectors": [[1, 0], [0, 1]]}, openai, "--min-cosine", "0.9999"), 0)
        self.assertEqual(compare([[1, 0]], [[1, 1]], "--min-cosine", "0.9"), 1)
        self.assertEqual(compare([[1, 0]], [[1, 1]]), 0)
        for other in ([[1]], [[1, 0], [0, 1]], [[float("nan"), 0]], [[0, 0]], [], {"data": 1}):
            self.assertEqual(compare([[1, 0]], other), 2, other)


if __name__ == "__main__":
    unittest.main()
