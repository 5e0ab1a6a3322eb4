"""The student: a small Qwen3 decoder that reads a text once and pools its last token, as the engine does.

Texts of a batch are padded on the right: attention is causal, so padding changes nothing. As in the engine, the last
layer computes queries, output and feed-forward for the last token alone.
"""

import time
from dataclasses import asdict, dataclass

import gguf
import torch
from torch import nn
from torch.nn import functional


def has_bfloat16():
    """Whether products of bfloat16 are faster here than those of float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    with open("/proc/cpuinfo") as file:
        return "amx_bf16" in file.read()


def clock():
    """Seconds of work: on a shared processor, not those spent waiting for it."""
    return time.time() if torch.cuda.is_available() else time.process_time() / torch.get_num_threads()


@dataclass
class Shape:
    vocabulary: int = 16_384
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    head: int = 64
    ffn: int = 512
    rope: float = 10_000.0
    epsilon: float = 1e-6
    context: int = 2048


class Norm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        return functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


def rotate(x, cos, sin):
    """Rotary embedding of split halves. x: (texts, heads, tokens, head)."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        width = shape.heads * shape.head
        self.heads, self.head = shape.heads, shape.head
        self.attn_norm = Norm(shape.hidden, shape.epsilon)
        self.attn_q = nn.Linear(shape.hidden, width, bias=False)
        self.attn_k = nn.Linear(shape.hidden, width, bias=False)
        self.attn_v = nn.Linear(shape.hidden, width, bias=False)
        self.attn_output = nn.Linear(width, shape.hidden, bias=False)
        self.attn_q_norm = Norm(shape.head, shape.epsilon)
        self.attn_k_norm = Norm(shape.head, shape.epsilon)
        self.ffn_norm = Norm(shape.hidden, shape.epsilon)
        self.ffn_gate = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.ffn_up = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.ffn_down = nn.Linear(shape.ffn, shape.hidden, bias=False)
        for linear in (self.attn_q, self.attn_k, self.attn_v, self.ffn_gate, self.ffn_up):
            nn.init.normal_(linear.weight, std=shape.hidden**-0.5)
        # A new layer changes nothing until it has learned something.
        nn.init.zeros_(self.attn_output.weight)
        nn.init.zeros_(self.ffn_down.weight)

    def split(self, x):
        return x.unflatten(-1, (self.heads, self.head)).transpose(1, 2)

    def forward(self, x, rope, last=None):
        """x: (texts, tokens, hidden). `last`: index of each text's last token; then (texts, 1, hidden) comes back."""
        normed = self.attn_norm(x)
        cos, sin = rope
        key = rotate(self.attn_k_norm(self.split(self.attn_k(normed))), cos, sin)
        value = self.split(self.attn_v(normed))
        if last is None:
            query = rotate(self.attn_q_norm(self.split(self.attn_q(normed))), cos, sin)
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            rows = torch.arange(len(x), device=x.device)
            x = x[rows, last][:, None]
            query = self.attn_q_norm(self.split(self.attn_q(normed[rows, last][:, None])))
            query = rotate(query, cos[last][:, None, None], sin[last][:, None, None])
            seen = torch.arange(key.shape[2], device=x.device) <= last[:, None]
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
        x = x + self.attn_output(mixed.transpose(1, 2).flatten(2))
        normed = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(normed)) * self.ffn_up(normed))


class Student(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.hidden)
        self.blk = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.hidden, shape.epsilon)
        # The last layer starts as a mean over the tokens: queries that favour none, values passed through.
        last = self.blk[-1]
        with torch.no_grad():
            last.attn_q.weight.mul_(0.1)
            last.attn_q_norm.weight.fill_(0.1)
            last.attn_v.weight.copy_(torch.eye(shape.hidden))
            last.attn_output.weight.copy_(torch.eye(shape.hidden))
        angles = torch.outer(
            torch.arange(shape.context).float(), shape.rope ** (-torch.arange(0, shape.head, 2).float() / shape.head)
        )
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x, lengths, depth=None):
        """Pooled vectors, not normalized, (texts, hidden). x: token vectors, (texts, tokens, hidden).

        Only the last `depth` layers run when it is given.
        """
        rope = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        layers = self.blk[-depth:] if depth else self.blk
        for layer in layers[:-1]:
            x = layer(x, rope)
        return self.output_norm(layers[-1](x, rope, lengths - 1))[:, 0]

    def embed(self, ids, depth=None, group=32):
        """Vectors of texts given as lists of token ids, in their order. Texts of like length run together."""
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        device = self.token_embd.weight.device
        groups = [[ids[index] for index in order[start : start + group]] for start in range(0, len(order), group)]
        lengths = [torch.tensor([len(row) for row in chosen]) for chosen in groups]
        padded = [torch.zeros(len(count), int(count.max()), dtype=torch.long) for count in lengths]
        for chosen, rows in zip(groups, padded):
            for row, tokens in zip(rows, chosen):
                row[: len(tokens)] = torch.tensor(tokens)
        # One lookup, so that there is one gradient of the whole table.
        found = self.token_embd(torch.cat([rows.flatten() for rows in padded]).to(device))
        parts = [
            self(x.unflatten(0, rows.shape), count.to(device), depth)
            for x, rows, count in zip(found.split([rows.numel() for rows in padded]), padded, lengths)
        ]
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[back.to(device)]


def save(path, student, **more):
    torch.save({"shape": asdict(student.shape), "student": student.state_dict(), **more}, path)


def load(path):
    """(student, everything that was saved)."""
    state = torch.load(path, map_location="cpu", weights_only=False)
    student = Student(Shape(**state["shape"]))
    student.load_state_dict(state["student"])
    return student, state


def read_gguf(path):
    """The student with the (dequantized) weights of a GGUF file that export.py wrote."""
    reader = gguf.GGUFReader(path)
    number = lambda key: reader.fields[f"qwen3.{key}"].contents()
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    shape = Shape(
        vocabulary=int(tensors["token_embd.weight"].shape[1]),
        hidden=number("embedding_length"),
        layers=number("block_count"),
        heads=number("attention.head_count"),
        head=number("attention.key_length"),
        ffn=number("feed_forward_length"),
        rope=number("rope.freq_base"),
        epsilon=number("attention.layer_norm_rms_epsilon"),
        context=number("context_length"),
    )
    student = Student(shape)
    student.load_state_dict(
        {name: torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type)) for name, tensor in tensors.items()}
    )
    return student
