#!/usr/bin/env bash
# The package for Python, as its users get it: the wheel in an empty environment, README's lines, types, tests of the core.
#   test_python.sh            builds the wheel, and the program for it
#   test_python.sh PROGRAM    with a program that is built
# Frameworks and clusters have scripts of their own (check_frameworks.py, check_cluster.py).
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
rm -rf "$CARGO_TARGET_DIR/wheels"
scripts/build_wheel.sh "$@"
venv=$CARGO_TARGET_DIR/python
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet "$CARGO_TARGET_DIR"/wheels/*.whl
# With nothing beside it but what it brings along.
"$venv/bin/python" - README.md <<'EOF'
import re, sys
blocks = re.findall(r"```python\n(.*?)```", open(sys.argv[1], encoding="utf-8").read(), re.DOTALL)
assert blocks
for block in blocks:
    exec(block, {})
EOF
"$venv/bin/qembed-q" --version
"$venv/bin/pip" install --quiet pytest pyarrow tqdm mypy pyright typing_extensions
cd python
"$venv/bin/mypy" qembed_q/__init__.py examples/*.py tests/*.py
"$venv/bin/pyright" --pythonpath "$venv/bin/python" qembed_q/__init__.py examples/*.py tests/*.py
# From elsewhere, so that the package is the one that was installed.
cd ..
"$venv/bin/pytest" -q python/tests/test_*.py
