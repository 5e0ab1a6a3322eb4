#!/usr/bin/env python3
"""Writes what the tokenizer has to know of cl100k_base, OpenAI's vocabulary, and texts with their ids to test that:

    pip install tiktoken
    python3 scripts/cl100k_fixtures.py

models/src/tokenizer/cl100k/numbers.rs  the ranks of the numbers of two and three digits, which Qwen's vocabulary does not have,
                                        and a fingerprint of all other tokens, which it has in the same order
models/tests/data/cl100k.json           texts and their ids

tiktoken would fetch the vocabulary from the network; the wheel of llama-index-core carries the file, so pip gets that, and nothing
of it is kept. Needs Python 3.9 with pip and tiktoken.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llama-index-core"
# Its name in the cache of tiktoken, which looks at its checksum.
FILE = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
ROOT = Path(__file__).resolve().parent.parent

NUMBERS = [f"{i:02}" for i in range(100)] + [f"{i:03}" for i in range(1000)]
TEXTS = [
    "This is a test query.",
    "test",
    " test",
    "The capital of China is Beijing.",
    "A sentence; then another: (with brackets), \"quotes\", and – dashes — of both kinds…",
    "I'll say they've said it's what we'd expect, and I'M SURE YOU'RE RIGHT.",
    "naïve café, Ærøskøbing, smörgåsbord, Łódź, İstanbul, Dvořák",
    "Die Würde des Menschen ist unantastbar; Straßenbahnhaltestellenschild.",
    "Où est passée la clé ? Là-bas, à côté de l’œuvre.",
    "El niño comió piñas en la montaña. ¿Cuándo? ¡Ya!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Η γρήγορη αλεπού πηδάει πάνω από το σκύλο.",
    "השועל החום המהיר קופץ מעל הכלב העצלן.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول ٠١٢٣٤٥٦٧٨٩.",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है। १२३४५",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
    "সহজ বাংলা বাক্য, தமிழ் சொல், తెలుగు పదం",
    "人工智能正在改变我们检索信息的方式。",
    "重力是物体之间相互吸引的力。12345 公里",
    "引力波的探测证实了广义相对论的预言：时空可以振动。",
    "いろはにほへと ちりぬるを、カタカナも漢字も。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "Tiếng Việt có nhiều dấu: ắ, ề, ộ, ữ, ỹ.",
    "cafe\u0301 and n\u0303 are written with combining marks, Z\u0351\u036b\u0343a\u0363lgo too\u0334",
    "\u1100\u1161\u11a8 is one syllable of three parts",
    "\u212b \u2126 \u00c5 \ufb01 \u2460 \u00bd \u2167 \u33a1",
    "😀 😃 🎉 👍🏽 🇨🇳 🏳️‍🌈 👩‍👩‍👧‍👦 ❤️‍🔥",
    "👩🏿‍🚀🧑🏻‍🦰",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠜎𠜱𠝹",
    "0", "7", "10", "99", "100", "255", "999", "1000", "65536", "1234567890",
    "Call +1 (555) 010-9999 on 2024-02-29 at 23:59:59.123456 UTC",
    "3.14159265358979323846264338327950288419716939937510",
    "IPv4 192.168.0.1, IPv6 2001:db8::ff00:42:8329, port 30000, v0.13.7-rc2",
    "Order 00042 of 007; ISBN 978-3-16-148410-0; 1e-10; 0x7fff; 50%; $1,299.00; ٣٤٥",
    "x1y22z333w4444v55555",
    "def f(x):\n    return [i ** 2 for i in range(x) if i % 2 == 0]\n",
    "fn main() {\n\tlet v: Vec<u32> = (0..10).collect();\n\tprintln!(\"{v:?}\");\n}\n",
    "SELECT id, name FROM users WHERE created_at >= '2020-01-01' ORDER BY 2 DESC LIMIT 100;",
    "{\"a\": [1, 22, 333, null, true], \"b\": {\"c\": \"d\\n\"}}",
    "<div class=\"row\"><a href='https://example.org/?q=1&r=two#three'>link</a></div>",
    "if (a !== b && c <= d || !e) { i++; } // comment /* and */ another",
    "# Heading\n\n- item\n- **bold** and `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "\\frac{1}{2} \\sum_{i=0}^{n} x_i^2 \\leq \\int_0^\\infty e^{-t}\\,dt",
    "C:\\Users\\name\\file.txt and /usr/local/lib/python3.11/site-packages",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    " ", "  ", "   leading and trailing   ", "\n", "\n\n\n", "\r\n\r\n", "\t\ttabs\tin\tbetween", "a\u00a0b\u3000c\u2003d",
    "!!!", "...", "=" * 40, "-" * 80, " " * 130, "a" * 100,
    "<|endoftext|> <|im_start|>system <|fim_prefix|> are plain text here",
    "\u0000\u0001\u001f\u007f\u0080\ufeff\ufffd\uffff\U0010ffff",
    "zero\u200bwidth\u200djoiners\u2060and\u200emarks",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "aGVsbG8gd29ybGQhIDEyMzQ1Njc4OTA= 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    " ".join(NUMBERS),
]  # fmt: skip


def ranks(content):
    """Token → rank, of a file of tiktoken's."""
    return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, content.splitlines())}


def fingerprint(tokens):
    """FNV-1a of tokens, the length of each in 32 bits before it."""
    value = 0xCBF29CE484222325
    for token in tokens:
        for byte in len(token).to_bytes(4, "little") + token:
            value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def rust(of):
    numbers = {number.encode() for number in NUMBERS}
    others = [token for token in sorted(of, key=of.get) if token not in numbers]
    return f"""//! Made by `scripts/cl100k_fixtures.py`.

/// How many tokens of cl100k_base are Qwen's as well.
pub(super) const SHARED: u32 = {len(others):_};

/// FNV-1a of those.
pub(super) const FINGERPRINT: u64 = {fingerprint(others):#x};

/// The ranks of the other ones: of `00` to `99`, then of `000` to `999`.
#[rustfmt::skip]
pub(super) const RANKS: [u32; {len(NUMBERS)}] = [
{lines(of)}];
"""


def lines(of):
    found = [str(of[number.encode()]) for number in NUMBERS]
    return "".join("    " + ", ".join(found[i : i + 16]) + ",\n" for i in range(0, len(found), 16))


def main():
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
        subprocess.run([*pip, "--dest", folder], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(f"llama_index/core/_static/tiktoken_cache/{FILE}")
        Path(folder, FILE).write_bytes(content)
        os.environ["TIKTOKEN_CACHE_DIR"] = folder
        import tiktoken

        encoding = tiktoken.get_encoding("cl100k_base")
    of = ranks(content)
    assert sorted(of.values()) == list(range(len(of))), "a rank is missing"
    (ROOT / "models/src/tokenizer/cl100k/numbers.rs").write_text(rust(of))
    # As LangChain encodes: what looks like a special token is text.
    cases = [{"text": text, "ids": encoding.encode(text, disallowed_special=())} for text in TEXTS]
    body = ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in cases)
    (ROOT / "models/tests/data/cl100k.json").write_text(f"[\n{body}\n]\n")


if __name__ == "__main__":
    main()
