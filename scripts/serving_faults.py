"""What must not break a server, as parts of compare_server.py: long mixed load, idle connections, SIGTERM, SIGKILL."""

import contextlib
import http.client
import itertools
import json
import random
import resource
import shutil
import signal
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

from compare_llama_cpp import ROOT, TARGET, Failed
from serving import TASK, Client, Ours, at_once, queries, request, text_of

PROGRAM = TARGET / "qembed-q"
BUILTIN = ROOT / "models" / "builtin"
# A request that was sent so long before the signal has been accepted: nobody else waits to be.
ACCEPTED = 0.2
GONE = (OSError, http.client.HTTPException)


def soak(args, model):
    """Everything that clients do, at once, for --soak seconds."""
    # So few results are kept that their memory is full soon.
    server = Ours(PROGRAM, model, args.threads, "--cache-size", "4MiB")
    end = time.monotonic() + args.soak
    statuses, failures, seeds = {}, [], itertools.count()

    def fresh(count):
        return queries(count, f"soak {next(seeds)}")

    same, long = fresh(64), text_of(60_000, 1)
    requests = {
        "query": lambda: request(fresh(1), instruction=TASK),
        "list": lambda: request(fresh(32), dimensions=64),
        "floats": lambda: json.dumps({"input": same}).encode(),
        "document": lambda: request([text_of(2000, f"soak {next(seeds)}")]),
        "int8": lambda: request(fresh(4), encoding_format=None, output_dtype="int8"),
        "too long": lambda: request([long]),
        "empty": lambda: request(["good", ""]),
        "no JSON": lambda: b'{"input": [',
        "wrong dimensions": lambda: request(["good"], dimensions=7),
    }

    def send(make):
        connection = Client(server.port)
        while time.monotonic() < end:
            status, answer = connection.post(make())
            statuses[status] = statuses.get(status, 0) + 1
            if status >= 500:
                failures.append(answer)
            # Those that are refused, or found, would otherwise be most of the load.
            time.sleep(0.05)

    def leave():
        """Goes away before the answer, or in the middle of the request."""
        while time.monotonic() < end:
            body = request(fresh(8))
            head = f"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(head + body[: len(body) // (1 + next(seeds) % 2)])
                time.sleep(0.2)

    def look():
        connection = Client(server.port)
        while time.monotonic() < end:
            for path in ("/health", "/metrics", "/v1/models", "/nowhere"):
                connection.get(path)
            time.sleep(1)

    def weigh():
        samples = []
        while time.monotonic() < end:
            samples.append((time.monotonic(), *server.memory()))
            time.sleep(max(0.2, args.soak / 600))
        return samples

    *_, samples = at_once([*(lambda make=make: send(make) for make in requests.values()), leave, look, weigh])
    what = f"mixed load for {args.soak:g} s"
    for at, resident, anonymous in samples[:: max(1, len(samples) // 20)]:
        yield f"{what}, at {at - samples[0][0]:.0f} s", Ours.name, "resident MB", resident
        yield f"{what}, at {at - samples[0][0]:.0f} s", Ours.name, "of which anonymous, MB", anonymous
    yield what, Ours.name, "% that resident memory varies after the first fifth", 100 * variation([sample[1] for sample in samples])
    yield what, Ours.name, "% that anonymous memory varies", 100 * variation([sample[2] for sample in samples])
    for status, count in sorted(statuses.items()):
        yield what, Ours.name, f"answers of {status}", count
    yield what, Ours.name, "answers of 500 and above", len(failures)
    yield what, Ours.name, "exit status", server.close()


def variation(values):
    """How far apart values are, the first fifth left out, in parts of their median."""
    values = values[len(values) // 5 :]
    return (max(values) - min(values)) / statistics.median(values)


def idle(args, model):
    """Connections that say nothing, then each of them one thing and nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, args.idle + 200)), hard))
    server = Ours(PROGRAM, model, args.threads)
    Client(server.port).embed(request(queries(1, "idle")))
    before, _ = server.memory()
    connections = [Client(server.port) for _ in range(args.idle)]
    for connection in connections:
        connection.connection.connect()
    Client(server.port).get("/health")  # It comes after all of them.
    yield f"{args.idle} idle connections", Ours.name, "MB more", server.memory()[0] - before
    for connection in connections:
        connection.get("/health")
    yield f"{args.idle} idle connections after a request each", Ours.name, "MB more", server.memory()[0] - before
    Client(server.port).embed(request(queries(1, "idle too")))
    server.close()


def stop(args, model):
    """SIGTERM while eight clients send queries, each on a connection of its own."""
    texts = queries(8, "stop")
    expected = vectors_of(Ours(PROGRAM, model, args.threads, "--cache-size", 0), texts)
    lost = wrong = late = 0
    rng = random.Random(1)
    for _ in range(args.stops):
        # Time enough for what is in flight, however slow the machine is.
        server = Ours(PROGRAM, model, args.threads, "--cache-size", 0, "--drain", 300)
        outcomes = []

        def hammer(text, server=server, outcomes=outcomes):
            while True:
                sent = time.monotonic()
                try:
                    status, answer = Client(server.port).post(request([text]))
                except GONE as error:
                    outcomes.append((sent, None, text))
                    if isinstance(error, ConnectionRefusedError):
                        return
                else:
                    vector = json.loads(answer)["data"][0]["embedding"] if status == 200 else None
                    outcomes.append((sent, status, vector == expected[text]))

        def end(server=server):
            time.sleep(rng.uniform(0.5, 2))
            at = time.monotonic()
            status = server.close()
            return at, time.monotonic() - at, status

        *_, (at, took, status) = at_once([*(lambda text=text: hammer(text) for text in texts), end])
        accepted = [outcome for outcome in outcomes if outcome[0] < at - ACCEPTED]
        lost += sum(status != 200 for _, status, _ in accepted)
        wrong += sum(status == 200 and not right for _, status, right in outcomes)
        late += sum(sent > at for sent, status, _ in outcomes if status == 200)
        what = f"SIGTERM under load, {args.stops} times"
        yield what, Ours.name, "requests answered", sum(status == 200 for _, status, _ in outcomes)
        yield what, Ours.name, "seconds to the end", took
        yield what, Ours.name, "exit status", status
    yield what, Ours.name, "accepted requests lost", lost
    yield what, Ours.name, "wrong vectors", wrong
    yield what, Ours.name, "answers to requests sent after the signal", late


def vectors_of(server, texts):
    """{text: vector} by lists of 16; the server ends then."""
    vectors = dict(zip(texts, itertools.chain(*(Client(server.port).embed(request(piece)) for piece in pieces(texts)))))
    server.close()
    return vectors


def pieces(texts):
    return [texts[i : i + 16] for i in range(0, len(texts), 16)]


def kill(args, _):
    """SIGKILL while results are written to a folder, and another model in the file's place: the built-in one at two levels."""
    models = [BUILTIN / "qembed-builtin-q8_0.gguf", BUILTIN / "qembed-builtin-f16.gguf"]
    texts = queries(2048, "kill")
    expected = [vectors_of(Ours(PROGRAM, model, args.threads, "--cache-size", 0), texts) for model in models]
    if expected[0] == expected[1]:
        raise Failed("both levels make the same vectors: nothing would be seen")
    wrong = found = 0
    rng = random.Random(2)
    with tempfile.TemporaryDirectory() as folder:
        file, part, kept = (Path(folder) / name for name in ("model.gguf", "model.part", "results"))
        for index in range(2 * args.kills):
            which = index // 2 % 2  # each twice, so that the second finds what the first one kept
            shutil.copy(models[which], part)
            part.rename(file)
            server = Ours(PROGRAM, file, args.threads, "--cache-dir", kept, "--cache-size", 0)
            died = threading.Event()

            def send(which=which, server=server, died=died):
                nonlocal wrong, found
                connection = Client(server.port)
                for piece in itertools.cycle(pieces(rng.sample(texts, len(texts)))):
                    body = request(piece)
                    try:
                        connection.connection.request("POST", "/v1/embeddings", body)
                        response = connection.connection.getresponse()
                        answer = response.read()
                    except GONE:
                        if died.is_set():
                            return
                        raise
                    found += int(response.getheader("x-cache-hits", 0))
                    vectors = [item["embedding"] for item in json.loads(answer)["data"]]
                    wrong += sum(vector != expected[which][text] for text, vector in zip(piece, vectors))

            def end(server=server, died=died):
                time.sleep(rng.uniform(1, 3))
                died.set()
                with contextlib.suppress(ProcessLookupError):
                    server.close(signal.SIGKILL)

            at_once([send, send, end])
    what = f"SIGKILL, {2 * args.kills} times, results kept in a folder"
    yield what, Ours.name, "wrong vectors", wrong
    yield what, Ours.name, "texts found again", found
    if not found:
        raise Failed("no text was found again: nothing was tested")


PARTS = {"soak": soak, "idle": idle, "stop": stop, "kill": kill}
# What, unit, the most that it may be.
TARGETS = [
    ("mixed load", "% that resident memory varies after the first fifth", 5),
    ("mixed load", "answers of 500 and above", 0),
    ("mixed load", "exit status", 0),
    ("1000 idle connections", "MB more", 20),
    ("1000 idle connections after", "MB more", 20),
    ("SIGTERM", "accepted requests lost", 0),
    ("SIGTERM", "wrong vectors", 0),
    ("SIGTERM", "exit status", 0),
    ("SIGKILL", "wrong vectors", 0),
]
