#!/usr/bin/env python3
"""Writes kernels/tests/formats/data/formats.txt: random blocks of every format and their values by the `gguf` package.

    python3 -m venv /somewhere && /somewhere/bin/pip install gguf numpy
    /somewhere/bin/python scripts/format_fixtures.py

`gguf.quants` (numpy) knows nothing of this repository, so a misread layout shows up as a difference. Blocks are random
bytes; their f16 fields are then set to finite scales that include zero, negative, subnormal and the largest ones, and E8M0
fields to usual, least and largest ones.

One line per block: the format's name, the block in hex, the bits of its f32 values in hex (eight digits each).
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type

SEED = 20250601
OUT = Path(__file__).resolve().parent.parent / "kernels/tests/formats/data/formats.txt"

# Where the f16 fields of a block are: every other byte may hold anything.
F16_FIELDS = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.IQ4_NL: [0],
    Type.IQ4_XS: [0],
    Type.MXFP4: [],
}
# Where E8M0 fields are, a byte each.
E8M0_FIELDS = {Type.MXFP4: [0]}
# A usual scale, a negative one, zero, negative zero, the least and the largest subnormal, the largest finite.
SCALES = np.array([0.0123, -0.0456, 0.0, -0.0, 2.0**-24, -6.097555e-05, 65504.0], np.float16)
EXPONENTS = np.array([120, 127, 0, 1, 2, 254, 255], np.uint8)
FLOATS_PER_LINE = 32


def quantized_blocks(rng, kind, fields):
    size = GGML_QUANT_SIZES[kind][1]
    blocks = rng.integers(0, 256, (len(SCALES), size), np.uint8)
    for n, field in enumerate(fields):
        # A second field takes the scales in another order, so that the pairs mix usual and unusual ones.
        blocks[:, field : field + 2] = np.roll(SCALES, 3 * n).view(np.uint8).reshape(-1, 2)
    for field in E8M0_FIELDS.get(kind, []):
        blocks[:, field] = EXPONENTS
    return blocks


def float_blocks(rng, kind):
    """Random bits, with NaN (whose payload no one promises) made infinite."""
    dtype, exponent, mantissa = {
        Type.F32: (np.uint32, 0x7F800000, 0x007FFFFF),
        Type.F16: (np.uint16, 0x7C00, 0x03FF),
        Type.BF16: (np.uint16, 0x7F80, 0x007F),
    }[kind]
    bits = rng.integers(0, np.iinfo(dtype).max + 1, (8, FLOATS_PER_LINE), dtype)
    bits[0, :8] = [0, 1, mantissa, mantissa + 1, exponent - 1, exponent, 1 << (dtype().nbytes * 8 - 1), exponent >> 1]
    bits[bits & exponent == exponent] &= ~np.array(mantissa, dtype)
    return bits.view(np.uint8)


def main():
    rng = np.random.default_rng(SEED)
    lines = []
    for kind in [Type.F32, Type.F16, Type.BF16, *F16_FIELDS]:
        fields = F16_FIELDS.get(kind)
        blocks = float_blocks(rng, kind) if fields is None else quantized_blocks(rng, kind, fields)
        for block in blocks:
            values = gguf.quants.dequantize(block, kind).astype(np.float32).view(np.uint32)
            lines.append(f"{kind.name} {block.tobytes().hex()} {''.join(f'{v:08x}' for v in values)}\n")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("".join(lines))


if __name__ == "__main__":
    main()
