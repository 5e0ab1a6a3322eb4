"""Servers to be measured, and clients that cost little beside them: what compare_server.py is made of."""

import atexit
import base64
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from compare_llama_cpp import LOADED_LIBRARY, Failed, tie

TASK = "Given a web search query, retrieve relevant passages that answer the query"
WORDS = """river stone light window garden music paper train winter summer bread water mountain city number letter engine
memory vector search query table forest green blue quick small large open close""".split()


def text_of(words, seed):
    """A text of so many words, each of them a token of Qwen's vocabulary; every seed has another."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(words))


def queries(count, seed):
    """Queries of 10 to 30 tokens."""
    rng = random.Random(seed)
    return [text_of(rng.randint(10, 30), f"{seed} {i}") for i in range(count)]


class Process:
    """A server's process; `port` is where it listens."""

    def __init__(self, command, **options):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log, **options
        )
        self.pid = self.process.pid
        # A comparison that fails leaves none behind.
        atexit.register(self.process.kill)

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def wait_until(self, ready, seconds=120):
        """Waits until `ready()` is not None, and gives it back."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"{self.process.args[0]} exits with {self.process.returncode}: {self.said()[-500:]}")
            if (value := ready()) is not None:
                return value
            time.sleep(0.05)
        self.process.kill()
        raise Failed(f"{self.process.args[0]} is not ready after {seconds} s: {self.said()[-500:]}")

    def memory(self):
        """MB that are resident, the mapped file included, and those of them that are anonymous."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = {name: int(size) for name, size in re.findall(r"^(VmRSS|RssAnon):\s+(\d+) kB", status, re.MULTILINE)}
        return kib["VmRSS"] * 1024 / 1e6, kib["RssAnon"] * 1024 / 1e6

    def close(self, sign=signal.SIGTERM):
        """Its exit status."""
        self.process.send_signal(sign)
        return self.process.wait(timeout=120)


class Ours(Process):
    """`qembed-q serve`; the best instruction set where no tier is named."""

    name = "qembed-q"

    def __init__(self, program, gguf, threads, *options, tier=None):
        environment = {**os.environ, **({"QEMBED_ISA": tier} if tier else {})}
        environment.pop("QEMBED_API_KEY", None)
        model = ["--gguf", gguf] if gguf else []
        super().__init__([program, "serve", "--port", 0, "--threads", threads, *model, *options], env=environment)
        line = re.compile(r"qembed-q: listening on http://127\.0\.0\.1:(\d+)")
        self.port = int(self.wait_until(lambda: line.search(self.said()))[1])

    @staticmethod
    def body(texts, task=None):
        return request(texts, **({"instruction": task} if task else {}))


class Llama(Process):
    """llama-server tied to one CPU library, whose name is checked in the process's memory map."""

    name = "llama-server"

    def __init__(self, binaries, gguf, threads, settings, tier, folder):
        library, environment = tie(binaries, tier, folder, "llama-server")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = ["./llama-server", "-m", gguf, "--embedding", "--pooling", "last", "-t", threads, "-tb", threads]
        # It needs a thread for each connection.
        command += ["--host", "127.0.0.1", "--port", self.port, "--threads-http", 64, *settings.split()]
        super().__init__(command, cwd=folder, env=environment)
        self.wait_until(self.healthy, 600)
        loaded = set(LOADED_LIBRARY.findall(Path(f"/proc/{self.pid}/maps").read_text()))
        if loaded != {library}:
            raise Failed(f"llama-server loaded {sorted(loaded)} instead of {library}")

    def healthy(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return True if Client(self.port).get("/health")[0] == 200 else None

    @staticmethod
    def body(texts, task=None):
        return request([f"Instruct: {task}\nQuery:{text}" for text in texts] if task else texts)


def request(texts, **fields):
    """The body of a request that both servers take."""
    return json.dumps({"input": texts, "encoding_format": "base64", **fields}).encode()


class Client:
    """A connection that is kept open."""

    def __init__(self, port, timeout=600):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def post(self, body, path="/v1/embeddings"):
        """Status and body of the answer."""
        self.connection.request("POST", path, body, {"content-type": "application/json"})
        response = self.connection.getresponse()
        return response.status, response.read()

    def get(self, path):
        self.connection.request("GET", path)
        response = self.connection.getresponse()
        return response.status, response.read()

    def embed(self, body):
        """The vectors of a request that has to be answered, in base64."""
        status, answer = self.post(body)
        if status != 200:
            raise Failed(f"status {status}: {answer[:300]!r}")
        return [item["embedding"] for item in json.loads(answer)["data"]]

    def bytes_of(self, body, buffer):
        """How many bytes an answer has, which go to the buffer and are not looked at."""
        self.connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
        response = self.connection.getresponse()
        if response.status != 200:
            raise Failed(f"status {response.status}: {response.read()[:300]!r}")
        count = 0
        while read := response.readinto(buffer):
            count += read
        return count


def at_once(work):
    """Runs each function on a thread of its own, all at once; what each returns. A failure of one is one of all."""
    results, failures = [None] * len(work), []

    def run(i):
        try:
            results[i] = work[i]()
        except Exception as error:  # noqa: BLE001: it is raised again, where it can be seen.
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


def seconds_of(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def flood(port, bodies, clients):
    """Sends bodies from so many clients, each one after the other: the seconds in all, and those of each request."""
    connections = [Client(port) for _ in range(clients)]

    def sender(i):
        return lambda: [seconds_of(lambda body=body: connections[i].embed(body)) for body in bodies[i::clients]]

    start = time.perf_counter()
    latencies = at_once([sender(i) for i in range(clients)])
    return time.perf_counter() - start, [latency for of_client in latencies for latency in of_client]


def vector(text):
    """The values that an answer has in base64."""
    data = base64.b64decode(text)
    return struct.unpack(f"<{len(data) // 4}f", data)


def percentile(values, part):
    """The least value that is not below so large a part of all."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * part // 100) - 1))]


class Library:
    """The library in a process of its own, without a server."""

    name = "library"

    def __init__(self, program, gguf, threads, tier):
        command = [program, "--gguf", gguf, "--threads", threads, "--isa", tier]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def seconds(self, texts, task=None):
        """What it takes for a list."""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"texts": texts, "instruction": task}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.process.args[0]} ends with {self.process.wait()}")
        return float(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
