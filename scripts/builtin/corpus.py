"""Text that the built-in model learns from: pairs of related passages from Debian packages, manual pages, documentation and source code.

`python3 corpus.py WORK` fetches what is missing into WORK and writes WORK/corpus.jsonl, one object a line:
{"kind", "split": "train" | "held-out", "a": query side, "b": passage side or null}. A source (package, page, file)
belongs to one split as a whole, by a checksum of its name, so held-out text never shares a file with training text.
"""

import ast
import glob
import gzip
import html.parser
import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import zlib

PACKAGES = (
    "manpages manpages-dev wordnet-base perl-doc postgresql-doc-15 nodejs-doc golang-1.19-src git-man rust-src "
    "python-django-doc sqlite3-doc"
).split()
HELD_OUT_SHARE = 20  # one source in so many is kept from training
SHORTEST, LONGEST = 12, 1200  # characters of a passage


def fetch(work):
    """Debian's list of package descriptions, and the documentation packages unpacked under WORK/root."""
    apt = f"{work}/apt"
    if os.path.exists(f"{apt}/done"):
        return
    os.makedirs(f"{apt}/lists/partial", exist_ok=True)
    os.makedirs(f"{apt}/archives/partial", exist_ok=True)
    options = {
        "Dir::State::lists": f"{apt}/lists",
        "Dir::Cache": apt,
        "Acquire::Languages": "en",
        "Acquire::GzipIndexes": "false",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "APT::Sandbox::User": "",
    }
    get = ["apt-get", "-qq"] + [word for item in options.items() for word in ("-o", "=".join(item))]
    subprocess.run(get + ["update"], check=True)
    subprocess.run(get + ["download", *PACKAGES], check=True, cwd=f"{apt}/archives")
    for package in glob.glob(f"{apt}/archives/*.deb"):
        subprocess.run(["dpkg", "-x", package, f"{work}/root"], check=True)
    open(f"{apt}/done", "w").close()


def unpacked(work, pattern):
    """Files of the documentation packages: `pattern` is below the folder that they all install into."""
    return glob.glob(f"{work}/root/*/{pattern}", recursive=True)


def clean(text):
    return re.sub(r"\s+", " ", text).strip()


def first_paragraphs(text, limit=600):
    """Whole sentences from the start, up to about `limit` characters."""
    text = clean(text)
    if len(text) <= limit:
        return text
    cut = text.rfind(". ", 0, limit)
    return text[: cut + 1] if cut > 80 else text[: text.rfind(" ", 0, limit)]


def debian(work):
    for path in glob.glob(f"{work}/apt/lists/*Translation-en*"):
        with open(path, encoding="utf-8") as file:
            data = file.read()
        for stanza in data.split("\n\n"):
            match = re.match(r"Package: (\S+)\n.*?\nDescription-en: (.*?)\n(.*)", stanza, re.S)
            if not match:
                continue
            name, short, long = match.groups()
            if re.search(r"-(dbg|dbgsym|dev|doc|data|common|l10n-.*)$|^lib.*\d$|^(task|fonts|texlive|hunspell|aspell|linux)-", name):
                if zlib.crc32(name.encode()) % 4:
                    continue
            long = first_paragraphs(re.sub(r"\n \.\n", "\n", long))
            yield "package", name, f"{name}: {short}", long
            yield "package-name", name, name, f"{short}. {long}"[:400]


def man_pages(work):
    paths = unpacked(work, "share/man/man*/*.gz")
    if shutil.which("manpath"):
        own = subprocess.run(["manpath", "-q"], capture_output=True, text=True).stdout.strip()
        paths += [path for folder in own.split(":") for path in glob.glob(f"{folder}/man*/*.gz")]
    paths = [path for path in paths if not os.path.basename(path).startswith("gcloud")]
    for path in sorted(paths):
        try:
            text = gzip.open(path, "rt", errors="replace").read()
        except OSError:
            continue
        text = re.sub(r'^\.\\".*$', "", text, flags=re.M)
        text = re.sub(r"^\.(BR|IR|RB|BI|IB|RI|SM|B|I|Nm|Fl|Ar|Xr|Pa|Cm|Ev|Em|Nd)(?= |$) ?", "", text, flags=re.M)
        text = re.sub(r"\\f.|\\&|\\[|/^,]", "", text).replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")
        text = re.sub(r"\\\((lq|rq|dq)", '"', text)
        text = re.sub(r"\\[(*]..|\\s[-+]?\d", "", text)
        sections = {title.strip('" ').upper(): body for title, body in re.findall(r"^\.S[Hh] ([^\n]*)\n(.*?)(?=^\.S[Hh] |\Z)", text, flags=re.M | re.S)}
        name = clean(re.sub(r"^\..*$", "", sections.get("NAME", ""), flags=re.M))
        body = [clean(part) for part in re.split(r"^\.(?:PP|P|LP|sp|Pp|TP|IP).*$", sections.get("DESCRIPTION", ""), flags=re.M)]
        body = [clean(re.sub(r'(^|\s)\.\S+( "[^"]*")?', " ", part)) for part in body]
        body = [part for part in body if len(part) > 60]
        match = re.match(r"(.{1,60}?) -+ (.{8,})", name)
        if not match or not body:
            continue
        page, purpose = match.groups()
        key = os.path.basename(path)
        yield "manual", key, f"{page} - {purpose}", first_paragraphs(body[0])
        verb = purpose[0].lower() + purpose[1:].rstrip(".")
        question = random.Random(key).choice(["how do I {}", "how to {}", "how can I {}?", "which command lets me {}?", "{}"])
        yield "question", key, question.format(verb), first_paragraphs(f"{page.split(',')[0]}: {body[0]}")
        for part in body[1:4]:
            yield "prose", key, first_paragraphs(part, 300), None


class Headings(html.parser.HTMLParser):
    """(heading, paragraph) of an HTML page, and its paragraphs."""

    def __init__(self):
        super().__init__()
        self.blocks, self.kind, self.text, self.skip = [], None, [], 0

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "style", "nav"):
            self.skip += 1
        elif tag in ("h1", "h2", "h3", "h4", "p", "pre", "dd"):
            self.end()
            self.kind = tag

    def handle_endtag(self, tag):
        if tag in ("script", "style", "nav"):
            self.skip = max(0, self.skip - 1)
        elif tag == self.kind:
            self.end()

    def handle_data(self, data):
        if self.kind and not self.skip:
            self.text.append(data)

    def end(self):
        text = clean("".join(self.text))
        if self.kind and text:
            self.blocks.append((self.kind[0] == "h", text))
        self.kind, self.text = None, []


def manuals(work):
    rust = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True).stdout.strip() + "/share/doc/rust/html"
    books = "book cargo clippy edition-guide embedded-book error_codes nomicon reference rust-by-example rustc rustdoc style-guide unstable-book".split()
    paths = [path for book in books for path in glob.glob(f"{rust}/{book}/**/*.html", recursive=True)]
    for folder in ("nodejs", "nodejs-doc", "postgresql-doc-15", "postgresql", "sqlite3", "sqlite3-doc", "python-django-doc"):
        paths += unpacked(work, f"share/doc/{folder}/**/*.html")
    for path in sorted(path for path in set(paths) if os.path.isfile(path) and not path.endswith(("print.html", "all.html"))):
        parser = Headings()
        parser.feed(open(path, errors="replace").read(1_500_000))
        heading = None
        for is_heading, text in parser.blocks:
            text = re.sub(r"[#¶]", "", text)
            if is_heading:
                heading = re.sub(r"^[\d.A-Z]+\.\s", "", text)
            elif len(text) > 50:
                if heading and len(heading) > 5:
                    yield "heading", path, heading, first_paragraphs(text)
                    heading = None
                else:
                    yield "prose", path, first_paragraphs(text, 300), None


def perl(work):
    for path in unpacked(work, "share/perl/*/pod/*.pod"):
        text = open(path, errors="replace").read()
        text = re.sub(r"[A-Z]<+ ?([^<>]*?) ?>+", r"\1", text)
        for title, body in re.findall(r"^=(?:head\d|item) ([^\n]{6,120})\n\n([A-Z(].*?)\n\n", text, flags=re.M | re.S):
            if len(body) > 50:
                yield "heading", path, clean(title), first_paragraphs(body)


def wordnet(work):
    for path in sorted(unpacked(work, "share/wordnet/data.*")):
        for line in open(path, errors="replace"):
            if line.startswith("  "):
                continue
            fields, gloss = line.split("|", 1)
            fields = fields.split()
            words = [word.replace("_", " ").split("(")[0] for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
            definition, *examples = gloss.split('"')
            definition = clean(definition).rstrip("; ")
            key = words[0].lower()
            if len(definition) > 15 and key.islower():
                yield "definition", key, ", ".join(words[:3]), definition
            for example in examples[::2]:
                if len(example) > 25:
                    yield "sentence", key, clean(example), None


def python_code(_work):
    roots = [sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"]]
    for path in sorted({path for root in roots for path in glob.glob(f"{root}/**/*.py", recursive=True)}):
        if re.search(r"/(tests?|testing|idlelib|encodings|pip/_vendor)/", path) or os.path.getsize(path) > 400_000:
            continue
        try:
            source = open(path).read()
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            continue
        lines = source.split("\n")
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or not (doc := ast.get_docstring(node)):
                continue
            doc = first_paragraphs(re.split(r"\n\s*\n|\n\s*(Args|Parameters|Returns|Example|>>>)", doc)[0], 300)
            body = lines[node.lineno - 1 : node.body[0].lineno - 1]
            if len(node.body) > 1:
                body += lines[node.body[1].lineno - 1 : min(node.end_lineno, node.body[1].lineno + 8)]
            code = "\n".join(body).strip()
            if len(doc) > 20 and len(code) > 40:
                yield "code", path, doc, code[:600]


def commented_code(paths, comment, item):
    """Pairs of a documentation comment and the item under it."""
    pattern = re.compile(rf"((?:^[ \t]*{comment}.*\n)+)((?:^[ \t]*#\[.*\n)*)(^[ \t]*{item}.*\n(?:.*\n){{0,8}})", re.M)
    for path in sorted(paths):
        if not os.path.isfile(path) or re.search(r"_test\.go$|/tests?/|/testdata/", path) or os.path.getsize(path) > 400_000:
            continue
        for doc, _, code in pattern.findall(open(path, errors="replace").read()):
            doc = re.sub(rf"^[ \t]*{comment} ?", "", doc, flags=re.M)
            doc = first_paragraphs(re.split(r"\n\s*\n|\n#|```", doc)[0], 300)
            code = re.split(r"\n\s*\n|\n\}|\n\s*///?", code)[0]
            if len(doc) > 20 and len(code) > 30:
                yield "code", path, doc, code[:600].strip()


def rust_code(work):
    home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    paths = glob.glob(f"{home}/registry/src/*/*/src/**/*.rs", recursive=True)
    paths += unpacked(work, "src/rustc-*/library/**/*.rs")
    paths += unpacked(work, "src/rustc-*/compiler/**/*.rs")
    yield from commented_code(paths, "///", r"(?:pub|fn|struct|enum|trait|impl|unsafe|const|macro_rules)\b")


def go_code(work):
    paths = unpacked(work, "share/go-*/src/**/*.go")
    yield from commented_code(paths, "//", r"(?:func|type)\b")


SOURCES = [debian, man_pages, manuals, perl, wordnet, python_code, rust_code, go_code]


def main(work):
    work = os.path.abspath(work)  # apt-get and dpkg run in folders of their own
    fetch(work)
    seen, counts = set(), {}
    with open(f"{work}/corpus.jsonl.part", "w") as file:
        for source in SOURCES:
            for kind, key, a, b in source(work):
                if not SHORTEST <= len(b or a) <= LONGEST or (b or a) in seen:
                    continue
                seen.add(b or a)
                # One function of one library copied between files would leak: the name of the file, not its folder, is the key.
                held_out = zlib.crc32(os.path.basename(key).encode()) % HELD_OUT_SHARE == 0
                split = "held-out" if held_out else "train"
                counts[kind, split] = counts.get((kind, split), 0) + 1
                file.write(json.dumps({"kind": kind, "split": split, "a": a, "b": b}) + "\n")
    os.replace(f"{work}/corpus.jsonl.part", f"{work}/corpus.jsonl")
    for (kind, split), count in sorted(counts.items()):
        print(f"{kind:14} {split:9} {count:7}")


if __name__ == "__main__":
    main(sys.argv[1])
