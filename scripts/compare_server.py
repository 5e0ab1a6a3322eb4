#!/usr/bin/env python3
"""`qembed-q serve` against llama-server and against the library: many clients, one client, lists, hits; then what must not break.

    python3 scripts/compare_server.py                               # everything: an hour and a half on two cores, the soak included
    python3 scripts/compare_server.py --parts clients one --tiers avx2
    python3 scripts/compare_server.py --parts soak --soak 60 --no-record
    python3 scripts/compare_server.py --gguf model.gguf --llama-server DIR/llama-server

Parts: `clients` (32 of them, a query each time, with one instruction and without), `one` (a client alone), `lists` (the table of
docs/server.md), `mixed` (query clients beside one that sends long documents), by instruction set; `hits` (results that are kept),
`soak` (mixed load, resident memory), `idle` (connections), `stop` (SIGTERM under load), `kill` (SIGKILL with a folder of results),
with the best one.

Engines take turns within a round, the next round in reverse order; medians are shown, and the targets with them. All runs on the
same cores: servers, the library and the clients. The library is timed in a process of its own (examples/lists.rs), from texts to vectors;
`what the server adds` is the median of the differences, text by text, each of which the two take one right after the other, now the one
first and now the other; llama-server's threads spin on after a text, so that it has its texts by itself. It gets the settings of --settings
that answer most queries a second with an instruction, tried at the start. Texts are made here and are all different, and our server keeps
no results, save where that is what is measured.

Needs Linux and what compare_llama_cpp.py needs: llama.cpp is built in its cache folder, unless --llama-server names one that was built
with one CPU library for each instruction set; without --gguf a model of the 0.6B shapes is made there too.
"""

import argparse
import csv
import datetime
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import serving_faults as faults
from compare_engine import word_models
from compare_llama_cpp import ROOT, TARGET, Failed, available_tiers, default_cache, install_llama_cpp, machine
from compare_llama_cpp import run as must_run
from serving import TASK, Client, Library, Llama, Ours, at_once, flood, percentile, queries, seconds_of, text_of, vector

SETTINGS = [
    "-np 32 -c 16384 -kvu -b 2048 -ub 2048",
    "-np 32 -c 16384 -kvu -b 2048 -ub 512",
    "-np 8 -c 16384 -kvu -b 2048 -ub 512",
]
# Of llama-server's texts a second, with an instruction and without.
RATIOS = {"avx2": (4.5, 2.2), "avx512vnni": (7.5, 3.5)}
LISTS = [1, 8, 32, 128]
OURS, LLAMA, LIBRARY = Ours.name, Llama.name, Library.name
ADDED = "what the server adds"


class Bench:
    """What the parts of one tier share: the engines, warm, and texts that nobody has seen yet."""

    def __init__(self, args, tier, llama, model, folder):
        self.args, self.tier, self.seeds = args, tier, itertools.count()
        self.library = Library(TARGET / "examples" / "lists", model, args.threads, tier)
        self.servers = [Ours(TARGET / "qembed-q", model, args.threads, "--cache-size", 0, tier=tier)]
        self.settings = None
        if llama:
            self.settings = self.best(llama, model, folder)
            self.servers.append(self.llama(llama, model, folder, self.settings))
        self.check()

    def llama(self, binaries, model, folder, settings):
        into = Path(tempfile.mkdtemp(dir=folder))
        return Llama(binaries, model, self.args.threads, settings, self.tier, into)

    def best(self, binaries, model, folder):
        """The settings with which llama-server answers most queries a second."""
        speeds = {}
        for settings in self.args.settings:
            server = self.llama(binaries, model, folder, settings)
            bodies = [server.body([text], TASK) for text in self.queries(2 * self.args.clients)]
            flood(server.port, bodies[: self.args.clients // 4], self.args.clients // 4)
            speeds[settings] = len(bodies) / flood(server.port, bodies, self.args.clients)[0]
            server.close()
            print(f"{self.tier} llama-server {settings}: {speeds[settings]:.2f} texts/s", file=sys.stderr)
        return max(speeds, key=speeds.get)

    def queries(self, count):
        return queries(count, f"{self.tier} {next(self.seeds)}")

    def passages(self, count):
        seed = f"{self.tier} {next(self.seeds)}"
        return [text_of(self.args.passage - 1, f"{seed} {i}") for i in range(count)]

    def in_turn(self, index):
        return self.servers[:: 1 if index % 2 == 0 else -1]

    def check(self):
        """All engines are warm, and compute the same."""
        (query,) = self.queries(1)
        self.library.seconds([query], TASK)
        vectors = [vector(Client(server.port).embed(server.body([query], TASK))[0]) for server in self.servers]
        for server, other in zip(self.servers[1:], vectors[1:]):
            cosine = sum(a * b for a, b in zip(vectors[0], other))
            if cosine < 0.99:
                raise Failed(f"the vectors of {server.name} are others: cosine {cosine:.4f}")

    def close(self):
        self.library.close()
        for server in self.servers:
            server.close()


def clients(bench):
    args = bench.args
    for index in range(args.rounds):
        for task in (TASK, None):
            what = f"{args.clients} clients, queries {'with one instruction' if task else 'without'}"
            texts = bench.queries(args.clients * args.queries)
            # As many at once as there are clients: what the engine gives for these tokens.
            pieces = [texts[i : i + args.clients] for i in range(0, len(texts), args.clients)]

            def library(pieces=pieces, task=task):
                return sum(bench.library.seconds(piece, task) for piece in pieces)

            # Right before our server, or right after it.
            for server in bench.in_turn(index):
                if server.name == OURS and index % 2 == 0:
                    yield what, LIBRARY, "texts/s", len(texts) / library()
                took, latencies = flood(server.port, [server.body([text], task) for text in texts], args.clients)
                yield what, server.name, "texts/s", len(texts) / took
                yield what, server.name, "ms, median", 1000 * statistics.median(latencies)
                yield what, server.name, "ms, p99", 1000 * percentile(latencies, 99)
                if server.name == OURS and index % 2 == 1:
                    yield what, LIBRARY, "texts/s", len(texts) / library()


def one(bench):
    what = "one client, queries with one instruction"
    connections = {server.name: Client(server.port) for server in bench.servers}
    for index in range(bench.args.rounds):
        texts = bench.queries(80)
        took = {server.name: [] for server in bench.servers} | {LIBRARY: []}

        def embed(server, text, took=took):
            body = server.body([text], TASK)
            took[server.name].append(seconds_of(lambda: connections[server.name].embed(body)))

        for server in bench.in_turn(index):
            time.sleep(1)
            for i, text in enumerate(texts):
                turns = [lambda: embed(server, text)]
                if server.name == OURS:
                    turns.append(lambda: took[LIBRARY].append(bench.library.seconds([text], TASK)))
                for turn in turns[:: 1 if i % 2 == 0 else -1]:
                    turn()
        for name, seconds in took.items():
            yield what, name, "ms", 1000 * statistics.median(seconds)
        yield what, ADDED, "ms", 1000 * statistics.median(a - b for a, b in zip(took[OURS], took[LIBRARY]))


def lists(bench):
    for index in range(bench.args.rounds):
        for size in LISTS:
            what = f"lists of {size}, {bench.args.passage} tokens each"
            texts = [bench.passages(size) for _ in range(max(1, 16 // size))]
            count = sum(map(len, texts))
            took = {LIBRARY: sum(map(bench.library.seconds, texts))}
            for server in bench.in_turn(index):
                took[server.name] = flood(server.port, list(map(server.body, texts)), 1)[0]
            for name, seconds in took.items():
                yield what, name, "ms a text", 1000 * seconds / count
                yield what, name, "texts/s", count / seconds


def mixed(bench):
    """All but one of the clients send queries, while the last one sends queries too, or documents."""
    args = bench.args
    for server in bench.servers:
        connections = [Client(server.port) for _ in range(args.clients)]
        documents = [text_of(args.document - 1, f"{bench.tier} {server.name} {i}") for i in range(args.documents)]
        for kind, last in (
            ("alone", [server.body([text], TASK) for text in bench.queries(args.queries)]),
            (f"and one with documents of {args.document} tokens", [server.body([text]) for text in documents]),
        ):
            done = threading.Event()

            def ask(connection, done=done, server=server):
                latencies = []
                while not done.is_set():
                    body = server.body(bench.queries(1), TASK)
                    latencies.append(seconds_of(lambda: connection.embed(body)))
                return latencies

            def send(done=done, last=last, connections=connections):
                try:
                    for body in last:
                        connections[-1].embed(body)
                finally:
                    done.set()
                return []

            asking = [lambda connection=connection: ask(connection) for connection in connections[:-1]]
            latencies = [latency for of_client in at_once([*asking, send]) for latency in of_client]
            what = f"{args.clients - 1} query clients {kind}"
            yield what, server.name, "ms, median", 1000 * statistics.median(latencies)
            yield what, server.name, "ms, p99", 1000 * percentile(latencies, 99)


def hits(args, model):
    """Lists of 128 that have been asked for before, in turn over two connections."""
    server = Ours(TARGET / "qembed-q", model, args.threads)
    bodies = [server.body(queries(128, f"hits {i}")) for i in range(4)]
    first = [Client(server.port).embed(body) for body in bodies]
    sent = [0, 0]

    def send(i):
        connection, buffer = Client(server.port), bytearray(1 << 20)
        size = connection.bytes_of(bodies[0], buffer)
        took = 0
        while took < args.seconds:
            body = bodies[sent[i] % len(bodies)]
            took += seconds_of(lambda body=body: connection.bytes_of(body, buffer))
            sent[i] += 1
        return size

    for _ in range(args.rounds):
        sent[:] = 0, 0
        took = seconds_of(lambda: at_once([lambda: send(0), lambda: send(1)]))
        yield "lists of 128 that are kept, base64, two clients", OURS, "texts/s", 128 * sum(sent) / took
    if first != [Client(server.port).embed(body) for body in bodies]:
        raise Failed("a vector that was kept is another than the first")
    server.close()


BY_TIER = {"clients": clients, "one": one, "lists": lists, "mixed": mixed}
ONCE = {"hits": hits, **faults.PARTS}


def targets(samples):
    """Lines of the table of targets, of {(tier, what, engine, unit): figures}: what, figure, target, met or not."""

    def figure(tier, what, engine, unit, of=statistics.median):
        found = (key for key in samples if key[0] == tier and key[1].startswith(what) and key[2:] == (engine, unit))
        return next((of(samples[key]) for key in found), None)

    def line(tier, what, above, below, least=None, most=None):
        if above is None or below is None or not below:
            return
        ratio = above / below
        met = ratio >= least if least is not None else ratio <= most
        yield tier, what, f"{ratio:.3g}", f"≥ {least:g}" if least is not None else f"≤ {most:g}", "met" if met else "**short**"

    for tier in dict.fromkeys(key[0] for key in samples):
        clients_of = next((key[1].split(",")[0] for key in samples if "clients, queries" in key[1]), "-")
        for kind, least in zip(("with one instruction", "without"), RATIOS.get(tier, (None, None))):
            what = f"{clients_of}, queries {kind}"
            speed = {name: figure(tier, what, name, "texts/s") for name in (OURS, LLAMA, LIBRARY)}
            if least:
                yield from line(tier, f"{what}: texts/s over llama-server's", speed[OURS], speed[LLAMA], least=least)
            yield from line(tier, f"{what}: texts/s over the library's", speed[OURS], speed[LIBRARY], least=0.95)
            slow, median = figure(tier, what, OURS, "ms, p99"), figure(tier, what, OURS, "ms, median")
            yield from line(tier, f"{what}: p99 over the median", slow, median, most=2)
        alone = "one client, queries with one instruction"
        theirs = figure(tier, alone, LLAMA, "ms")
        yield from line(tier, "one client: ms over llama-server's", figure(tier, alone, OURS, "ms"), theirs, most=1 / 3)
        yield from line(tier, "one client: ms that the server adds", figure(tier, alone, ADDED, "ms"), 1, most=1)
        of_128 = [figure(tier, "lists of 128, ", name, "texts/s") for name in (OURS, LIBRARY)]
        yield from line(tier, "lists of 128: texts/s over the library's", *of_128, least=0.95)
        few = next((key[1].split(" query")[0] for key in samples if "query clients" in key[1]), "-")
        slow = [figure(tier, f"{few} query clients {kind}", OURS, "ms, p99") for kind in ("and one with documents", "alone")]
        yield from line(tier, "query clients: p99 with documents over that without", *slow, most=3)
        yield from line(tier, "lists of 128 that are kept: texts/s", figure(tier, "lists of 128 that", OURS, "texts/s"), 1, least=20000)
        for what, unit, most in faults.TARGETS:
            value = figure(tier, what, OURS, unit, of=max)
            if value is not None:
                yield tier, f"{what}: {unit}", f"{value:.3g}", f"≤ {most:g}", "met" if value <= most else "**short**"


def report(rows):
    """The tables, in Markdown: targets, then all figures."""
    samples = {}
    for *key, value in rows:
        samples.setdefault(tuple(key), []).append(value)
    text = "| tier | target | figure | | |\n|---|---|---:|---|---|\n"
    for line in targets(samples):
        text += f"| {' | '.join(line)} |\n"
    text += "\n| tier | what | engine | | median (lowest–highest) |\n|---|---|---|---|---:|\n"
    for key, values in samples.items():
        text += f"| {' | '.join(key)} | {statistics.median(values):.4g} ({min(values):.4g}–{max(values):.4g}) |\n"
    return text


def write(path, head, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.md").write_text(head + report(rows), encoding="utf-8")
    with open(f"{path}.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["tier", "what", "engine", "unit", "value"], *rows])


def prepare(args):
    """The folder of llama-server and its libraries, and the model file."""
    programs = ["--bin", "qembed-q", "--example", "lists", "--example", "synth"]
    must_run(["cargo", "build", "--release", *programs], cwd=ROOT)
    llama = None
    if args.llama_server:
        llama = args.llama_server.resolve().parent
    elif not args.alone:
        llama = install_llama_cpp(args.cache, ["llama-server"])
    return llama, args.gguf.resolve() if args.gguf else word_models(args.cache, ["0.6b"])["0.6b"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=[*BY_TIER, *ONCE], default=[*BY_TIER, *ONCE])
    parser.add_argument("--tiers", nargs="+", help="default: all of this machine")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--clients", type=int, default=32, metavar="N")
    parser.add_argument("--queries", type=int, default=6, metavar="N", help="of each client in a round")
    parser.add_argument("--passage", type=int, default=64, metavar="TOKENS", help="of a text of a list")
    parser.add_argument("--document", type=int, default=8192, metavar="TOKENS")
    parser.add_argument("--documents", type=int, default=2, metavar="N", help="one after the other, of the part mixed")
    parser.add_argument("--seconds", type=float, default=5, help="of a round of hits")
    parser.add_argument("--soak", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--idle", type=int, default=1000, metavar="CONNECTIONS")
    parser.add_argument("--stops", type=int, default=20, metavar="N", help="of the part stop")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="of the part kill")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="FLAGS", help="of llama-server; the best are taken")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="a model with Qwen's vocabulary; default: random weights, 0.6B")
    parser.add_argument("--llama-server", type=Path, metavar="PATH", help="an existing build with one library per tier")
    parser.add_argument("--alone", action="store_true", help="without llama-server")
    parser.add_argument("--cache", type=Path, default=default_cache("llama.cpp"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--record", type=Path, default=ROOT / "benches" / "record", metavar="DIR")
    parser.add_argument("--name", default=f"{datetime.date.today()}-server", help="of the record; default: %(default)s")
    parser.add_argument("--no-record", action="store_true", help="only print the tables")
    args = parser.parse_args()
    if not args.gguf and (args.alone or args.llama_server):
        parser.error("name a model with --gguf: that of the cache folder takes its vocabulary from the llama.cpp that is built there")

    cpuinfo = Path("/proc/cpuinfo").read_text()
    rows = []
    try:
        llama, model = prepare(args)
        head = f"# The server, {datetime.date.today()}\n\n`python3 scripts/compare_server.py {' '.join(sys.argv[1:])}`: "
        head += f"{machine(cpuinfo, args.threads)}; {model.name}.\n\n"

        def take(tier, figures):
            for row in figures:
                print(tier, *row, file=sys.stderr)
                rows.append((tier, *row))
            if not args.no_record:
                write(args.record / args.name, head, rows)

        by_tier = [part for part in BY_TIER if part in args.parts]
        for tier in (args.tiers or available_tiers(cpuinfo)) if by_tier else []:
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(args, tier, llama, model, folder)
                if bench.settings:
                    head += f"{tier}: `llama-server {bench.settings}`\n\n"
                for part in by_tier:
                    take(tier, BY_TIER[part](bench))
                bench.close()
        for part in [part for part in ONCE if part in args.parts]:
            take("best", ONCE[part](args, model))
        print(head + report(rows))
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"compare_server.py: {error}")


if __name__ == "__main__":
    main()
