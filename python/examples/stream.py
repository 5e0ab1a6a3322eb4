"""Lines of standard input to a file of 16-bit floats, [lines × dimensions], in constant memory.

    python stream.py vectors.f16 [MODEL] < lines.txt
"""

import sys

from qembed_q import Embedder

embedder = Embedder(sys.argv[2] if len(sys.argv) > 2 else None)
lines = (line.rstrip("\n") for line in sys.stdin)
rows = 0
with open(sys.argv[1], "wb") as file:
    for ids, block in embedder.stream(lines, precision="float16"):
        block.tofile(file)
        rows += len(ids)
        print(f"{rows} lines of {embedder.dim} values", file=sys.stderr)
