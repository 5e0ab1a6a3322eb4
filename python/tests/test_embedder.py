"""Vectors are those of the program, to the bit, however they are asked for."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import qembed_q
from conftest import TEXTS
from numpy.typing import NDArray
from qembed_q import DEFAULT_TASK, TASKS, Embedder

Reference = Callable[..., NDArray[Any]]
#: How long a process may take that should end at once.
PATIENCE = 120


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """To the bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_version_is_that_of_the_program(program: str) -> None:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.split()[1] == qembed_q.__version__


def test_documents(embedder: Embedder, reference: Reference) -> None:
    expected = reference(TEXTS)
    vectors = embedder.encode(TEXTS)
    assert same(vectors, expected)
    assert vectors.flags.c_contiguous and vectors.flags.writeable
    assert same(embedder.encode_document(tuple(TEXTS)), expected)
    assert same(embedder.encode(text for text in TEXTS), expected)
    assert same(embedder.encode(np.array(TEXTS, dtype=object)), expected)
    for text, vector in zip(TEXTS, expected):
        assert same(embedder.encode(text), vector), "of one text a vector, whatever else was in the call"
    assert embedder.encode([]).shape == (0, embedder.dim)


def test_queries(embedder: Embedder, reference: Reference) -> None:
    expected = reference(TEXTS, "--query")
    assert not same(expected, reference(TEXTS))
    assert same(embedder.encode_query(TEXTS), expected)
    assert same(embedder.encode(TEXTS, prompt_name="query"), expected)
    assert same(embedder.encode(TEXTS, instruction=DEFAULT_TASK), expected)
    assert same(embedder.encode_query(TEXTS[0]), expected[0])
    own = reference(TEXTS, "--instruct", "Find it")
    assert same(embedder.encode_query(TEXTS, instruction="Find it"), own)
    assert same(embedder.encode(TEXTS, instruction="Find it"), own)
    for task in ["legal", "code_retrieval_query", "document"]:
        assert same(embedder.encode(TEXTS, task=task), reference(TEXTS, "--task", task))
    assert same(embedder.encode(TEXTS, prompt_name="document"), reference(TEXTS))
    assert {task.name for task in TASKS} >= {"document", "retrieval", "legal", "code", "bitext"}


def test_dimensions_and_truncation(embedder: Embedder, reference: Reference) -> None:
    assert same(embedder.encode(TEXTS, dim=64), reference(TEXTS, "--dim", "64"))
    long = ["far too long " * 2000, "short"]
    ends: list[Any] = ["left", "right"]
    for end in ends:
        assert same(embedder.encode(long, truncate=end), reference(long, "--truncate", end))
    assert same(embedder.encode(["", "a"], empty="end"), reference(["", "a"], "--empty", "end-token"))


def test_precision(embedder: Embedder, reference: Reference) -> None:
    vectors = embedder.encode(TEXTS)
    names: list[tuple[Any, str]] = [("float16", "f16"), ("int8", "int8"), ("ubinary", "ubinary")]
    for precision, dtype in names:
        assert same(embedder.encode(TEXTS, precision=precision), reference(TEXTS, "--dtype", dtype))
    int8, binary = embedder.encode(TEXTS, precision="int8"), embedder.encode(TEXTS, precision="binary")
    assert np.array_equal(embedder.encode(TEXTS, precision="uint8"), int8.astype(np.int16) + 128)
    assert np.array_equal(np.unpackbits((binary.astype(np.int16) + 128).astype(np.uint8), axis=-1), vectors > 0)
    assert embedder.encode("a", precision="int8").shape == (embedder.dim,)
    # Before any work: the text would be refused, too.
    with pytest.raises(qembed_q.OptionError, match="precision='int4': there are float32, float16"):
        embedder.encode("", precision="int4")  # type: ignore[arg-type]


def test_states(embedder: Embedder) -> None:
    states = embedder.encode(TEXTS, normalize=False)
    assert same(embedder.encode(TEXTS, normalize=False, dim=64), states[:, :64])
    assert same(pa.array(embedder.encode_arrow(pa.array(TEXTS), normalize=False)).flatten().to_numpy(), states.ravel())
    # The sum of squares may be added up in another order than the engine does.
    wide = states.astype(np.float64)
    unit = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    assert not np.allclose(states, unit) and np.abs(unit - embedder.encode(TEXTS)).max() <= 2.0**-24
    assert same(embedder.encode(TEXTS, normalize=False, precision="ubinary"), embedder.encode(TEXTS, precision="ubinary"))
    with pytest.raises(qembed_q.OptionError, match="normalize=False"):
        embedder.encode(TEXTS, normalize=False, precision="int8")


def test_out_is_filled_where_it_lies(embedder: Embedder, tmp_path: Path) -> None:
    expected = embedder.encode(TEXTS)
    file = np.memmap(tmp_path / "vectors", dtype=np.float32, mode="w+", shape=(20, embedder.dim))
    part = file[5 : 5 + len(TEXTS)]
    assert embedder.encode(TEXTS, out=part) is part
    file.flush()
    read = np.fromfile(tmp_path / "vectors", dtype=np.float32).reshape(20, -1)
    assert same(read[5 : 5 + len(TEXTS)], expected) and not read[:5].any() and not read[5 + len(TEXTS) :].any()
    vector = np.empty(embedder.dim, np.float32)
    assert same(embedder.encode(TEXTS[0], out=vector), expected[0]) and same(vector, expected[0])
    wide = np.zeros((len(TEXTS), 2 * embedder.dim), np.float32)
    for wrong in [wide, wide[:, ::2], expected[:, :64]]:
        with pytest.raises(qembed_q.OptionError, match="out has"):
            embedder.encode(TEXTS, out=wrong)
    expected.flags.writeable = False
    with pytest.raises(qembed_q.OptionError, match="out cannot be written to"):
        embedder.encode(TEXTS, out=expected)
    with pytest.raises(TypeError):
        embedder.encode(TEXTS, out=np.zeros((len(TEXTS), embedder.dim)))  # type: ignore[arg-type]


def test_stream(embedder: Embedder) -> None:
    expected = embedder.encode(TEXTS)
    blocks = list(embedder.stream(iter(TEXTS), batch=3))
    assert [ids for ids, _ in blocks] == [[0, 1, 2], [3, 4, 5], [6]]
    assert same(np.concatenate([block for _, block in blocks]), expected)
    pairs = [(f"id {i}", text) for i, text in enumerate(TEXTS)]
    seen: list[tuple[int, int | None]] = []
    blocks_of_pairs = list(embedder.stream(pairs, batch=4, progress=lambda done, of: seen.append((done, of))))
    assert [id for ids, _ in blocks_of_pairs for id in ids] == [id for id, _ in pairs]
    assert same(np.concatenate([block for _, block in blocks_of_pairs]), expected)
    assert seen[-1] == (7, 7) and (4, 7) in seen


def test_arrow(embedder: Embedder) -> None:
    expected = embedder.encode(TEXTS)
    for array in [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(["left out", *TEXTS])[1:],
        pa.chunked_array([TEXTS[:2], [], TEXTS[2:]]),
    ]:
        vectors = embedder.encode_arrow(array)
        assert isinstance(vectors, pa.FixedSizeListArray) and vectors.type == pa.list_(pa.float32(), embedder.dim)
        assert vectors.null_count == 0
        assert same(vectors.flatten().to_numpy().reshape(len(TEXTS), -1), expected)
    cut = embedder.encode_arrow(pa.array(TEXTS), dim=32, task="query")
    assert same(cut.flatten().to_numpy().reshape(-1, 32), embedder.encode_query(TEXTS, dim=32))

    class Foreign:
        def __arrow_c_array__(self, requested_schema: object = None) -> Any:
            return pa.array(TEXTS).__arrow_c_array__(requested_schema)

    assert pa.array(embedder.encode_arrow(Foreign())).equals(embedder.encode_arrow(pa.array(TEXTS)))
    assert len(embedder.encode_arrow(pa.array([], pa.string()))) == 0
    with pytest.raises(qembed_q.TextError, match="text 3 is null") as error:
        embedder.encode_arrow(pa.chunked_array([["a"], ["b", None]]))
    assert error.value.text == 2
    with pytest.raises(qembed_q.OptionError, match="an array of Int64"):
        embedder.encode_arrow(pa.array([1]))


def test_tokens(embedder: Embedder) -> None:
    ids = embedder.tokenize("The capital of China")
    assert embedder.detokenize(ids) == "The capital of China"
    assert embedder.count("The capital of China") == len(ids) + 1
    counts = embedder.count(["The capital of China", ""], task="query")
    prefix = len(embedder.tokenize(f"Instruct: {DEFAULT_TASK}\nQuery:")) + 1
    assert counts == [len(ids) + prefix, prefix]
    with pytest.raises(qembed_q.OptionError):
        embedder.detokenize([10**6])


def test_similarity(embedder: Embedder) -> None:
    vectors = embedder.encode(TEXTS)
    cosines = embedder.similarity(vectors, vectors[:3])
    # Products of float32 values of unit vectors, summed: 256 roundings of 2⁻²⁴ at most, and those of the lengths.
    tolerance = 300 * 2**-24
    assert cosines.shape == (7, 3) and np.allclose(cosines, vectors @ vectors[:3].T, rtol=0, atol=tolerance)
    assert np.allclose(embedder.similarity_pairwise(3 * vectors, vectors), 1, rtol=0, atol=tolerance)
    assert embedder.similarity(vectors[0], vectors).shape == (1, 7)
    assert not embedder.similarity(np.zeros(256), vectors).any()


def test_progress(embedder: Embedder, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int | None]] = []
    embedder.encode(TEXTS * 50, progress=lambda done, of: seen.append((done, of)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen}) and len(seen) > 1
    assert seen[-1] == (350, 350)
    embedder.encode(TEXTS, progress=True)
    shown = capfd.readouterr()
    assert "7/7" in shown.err and not shown.out

    def fails(done: int, of: int | None) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError):
        embedder.encode(TEXTS, progress=fails)


def test_errors_name_the_text_and_the_way_out(embedder: Embedder) -> None:
    texts: Any
    for texts, words, at in [
        (["a", ""], "text 2 is empty", 1),
        (["a", 7], r"text 2 is 7 \(int\): texts are strings", 1),
        (["a", "b", None], "text 3 is None", 2),
        (["\ud800"], "text 1 is not Unicode", 0),
        (["a", "too long " * 3000], "text 2 has 6003 tokens .* the model's limit is 2048", 1),
    ]:
        with pytest.raises(qembed_q.TextError, match=words) as error:
            embedder.encode(texts)
        assert error.value.text == at and isinstance(error.value, ValueError)
        again = pickle.loads(pickle.dumps(error.value))
        assert type(again) is qembed_q.TextError and (str(again), again.text) == (str(error.value), at)
    options: Any
    for options, words in [
        ({"dim": 5}, "5 dimensions asked for"),
        ({"task": "none such"}, "no task is called 'none such'; there are document, "),
        ({"task": "query", "instruction": "x"}, "give one of them"),
        ({"truncate": "middle"}, "there are error, left, right"),
        ({"empty": "no"}, "there are error, end"),
        ({"precision": "float64"}, "there are float32"),
        ({"instruction": "long " * 3000}, "leaves no room for a text"),
    ]:
        with pytest.raises(qembed_q.OptionError, match=words):
            embedder.encode(["a"], **options)


def test_models_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(qembed_q.ModelNotFound, match="no such file") as missing:
        Embedder(tmp_path / "none.gguf")
    assert isinstance(missing.value, FileNotFoundError) and isinstance(missing.value, qembed_q.ModelError)
    with pytest.raises(qembed_q.ModelNotFound, match="get it by `qembed-q pull 4b:Q4_K_M`"):
        Embedder("4b")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\3\0\0\0" + bytes(range(100)))
    with pytest.raises(qembed_q.ModelError, match="broken.gguf: "):
        Embedder(broken)
    with pytest.raises(qembed_q.OptionError, match="unknown instruction set"):
        Embedder(isa="none such")
    with pytest.raises(qembed_q.OptionError, match="there are cpu, metal, auto"):
        Embedder(device="cuda")  # type: ignore[arg-type]


def test_memory_budget() -> None:
    with pytest.raises(qembed_q.MemoryBudgetError, match="takes (\\d+) bytes at least") as error:
        Embedder(memory=1000)
    assert isinstance(error.value, MemoryError)
    least = int(str(error.value).split(" takes ")[1].split()[0])
    embedder = Embedder(memory=least)
    assert same(embedder.encode(TEXTS[:4]), Embedder().encode(TEXTS[:4]))
    with pytest.raises(qembed_q.MemoryBudgetError, match="text 2 has 602 tokens") as error:
        embedder.encode(["a", "long " * 600])
    assert error.value.text == 1


def test_threads_at_once(embedder: Embedder) -> None:
    expected = embedder.encode(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(lambda _: embedder.encode(TEXTS), range(24)):
            assert same(vectors, expected)


def test_others_run_while_it_works(embedder: Embedder) -> None:
    """The interpreter is not held: another thread counts on meanwhile."""
    counted, done = 0, threading.Event()

    def run() -> None:
        embedder.encode(TEXTS * 100)
        done.set()

    work = threading.Thread(target=run)
    work.start()
    while not done.is_set():
        counted += 1
    work.join()
    assert counted > 1000


def test_asyncio(embedder: Embedder) -> None:
    async def run() -> None:
        vectors, query = await asyncio.gather(
            embedder.aencode(TEXTS), embedder.aencode(TEXTS[0], task="query", dim=64, precision="int8")
        )
        assert same(vectors, embedder.encode(TEXTS))
        assert same(query, embedder.encode_query(TEXTS[0], dim=64, precision="int8"))
        # The loop goes on, and what nobody waits for any more ends long before it is done.
        work = asyncio.create_task(embedder.aencode([f"{number} words" * 100 for number in range(100_000)]))
        await asyncio.sleep(0.2)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        with pytest.raises(qembed_q.TextError):
            await embedder.aencode([""])

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_copies(tmp_path: Path) -> None:
    embedder = Embedder(threads=1, isa="scalar")
    for again in [pickle.loads(pickle.dumps(embedder)), copy.copy(embedder)]:
        assert (again.threads, again.isa, again.model) == (1, "scalar", None)
        assert same(again.encode(TEXTS[:4]), embedder.encode(TEXTS[:4]))


def test_a_path_is_the_same_elsewhere(tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pickled opens in a process that stands in another folder."""
    model = Path(__file__).parents[2] / "models/builtin/qembed-builtin-q8_0.gguf"
    (tmp_path / "model.gguf").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Embedder("model.gguf"))
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)
    assert again.digest == Embedder().digest and same(again.encode(TEXTS), Embedder().encode(TEXTS))


def child(embedder: Embedder, pipe: Any) -> None:
    pipe.send_bytes(embedder.encode(TEXTS).tobytes())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_fork(embedder: Embedder) -> None:
    expected = embedder.encode(TEXTS)
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        here, there = context.Pipe()
        process = context.Process(target=child, args=(embedder, there))
        process.start()
        assert here.poll(PATIENCE), "the child hangs"
        assert here.recv_bytes() == expected.tobytes()
        process.join(PATIENCE)
        assert process.exitcode == 0 and same(embedder.encode(TEXTS), expected)


def test_spawned_workers(embedder: Embedder) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = pool.map_async(embedder.encode, [TEXTS, TEXTS[:2]]).get(PATIENCE)
    assert same(results[0], embedder.encode(TEXTS)) and same(results[1], embedder.encode(TEXTS[:2]))


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c() -> None:
    """Some minutes of work end at once, as KeyboardInterrupt, and the model is as good as before."""
    code = """
import qembed_q, signal, sys
# Whoever started the tests may have told their children to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
embedder = qembed_q.Embedder()
before = embedder.encode("a").tobytes()
texts = [f"{number} some words " * 200 for number in range(20_000)]
try:
    print("begun", flush=True)
    embedder.encode(texts)
except KeyboardInterrupt:
    assert embedder.encode("a").tobytes() == before
    sys.exit(42)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    # No code of Python runs meanwhile that would see the signal. The work itself is minutes long.
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 42
