"""The cache of the package `huggingface_hub`, as shipped: it finds what `qembed-q pull` has put there, and the other way round."""

import hashlib
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import PROGRAM, QWEN
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache

REPOSITORY = "owner/model"
FILE = "sub/model-Q8_0.gguf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub():
    """A server that answers as the hub does about one file; gives its address and the contents that it was asked for."""
    body = Path(QWEN).read_bytes()
    etag = hashlib.sha256(body).hexdigest()
    about = {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": FILE}], "private": False, "tags": [], "downloads": 0}
    contents = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self, send):
            api = self.path.startswith(f"/api/models/{REPOSITORY}")
            known = api or self.path.split("/resolve/")[-1] in (f"{COMMIT}/{FILE}", f"main/{FILE}")
            payload = json.dumps(about).encode() if api else body if known else b""
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(payload)))
            self.send_header("content-type", "application/json" if api else "application/octet-stream")
            if not api:
                self.send_header("etag", f'"{etag}"')
                self.send_header("x-linked-etag", f'"{etag}"')
                self.send_header("x-linked-size", str(len(body)))
                self.send_header("x-repo-commit", COMMIT)
            self.end_headers()
            if send:
                self.wfile.write(payload)
                contents.extend([] if api else [self.path])

        def do_GET(self):
            self.answer(True)

        def do_HEAD(self):
            self.answer(False)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", contents
    server.shutdown()


def run(cache, endpoint, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and "PROXY" not in name.upper()}
    environment |= {"HF_HUB_CACHE": str(cache), "HF_ENDPOINT": endpoint}
    ran = subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran


def test_python_finds_what_was_pulled(hub, tmp_path):
    endpoint, contents = hub
    path = run(tmp_path, endpoint, "pull", f"{REPOSITORY}:q8_0").stdout.rstrip("\n")
    assert len(contents) == 1
    assert try_to_load_from_cache(REPOSITORY, FILE, cache_dir=tmp_path) == path
    assert snapshot_download(REPOSITORY, cache_dir=tmp_path, local_files_only=True) == str(Path(path).parents[1])
    # With the network, it asks and does not download again.
    assert hf_hub_download(REPOSITORY, FILE, cache_dir=tmp_path, endpoint=endpoint) == path
    assert len(contents) == 1
    scan = scan_cache_dir(tmp_path)
    assert not scan.warnings
    [repository] = scan.repos
    [revision] = repository.revisions
    assert (repository.repo_id, revision.commit_hash, set(revision.refs)) == (REPOSITORY, COMMIT, {"main"})
    assert {file.file_name for file in revision.files} == {Path(FILE).name}
    assert repository.size_on_disk == Path(QWEN).stat().st_size


def test_what_python_has_downloaded_is_found(hub, tmp_path):
    endpoint, contents = hub
    path = hf_hub_download(REPOSITORY, FILE, cache_dir=tmp_path, endpoint=endpoint)
    assert len(contents) == 1
    # Nobody listens there: a name asks nobody.
    found = json.loads(run(tmp_path, "http://127.0.0.1:9", "inspect", "--json", f"{REPOSITORY}:Q8_0").stdout)
    assert found["file"] == path
    pulled = run(tmp_path, endpoint, "pull", REPOSITORY)
    assert pulled.stdout.rstrip("\n") == path and "is there already" in pulled.stderr
    assert len(contents) == 1


def test_what_is_removed_is_gone_for_python(hub, tmp_path):
    endpoint, _ = hub
    run(tmp_path, endpoint, "pull", REPOSITORY)
    run(tmp_path, endpoint, "models", "rm", REPOSITORY, "--yes")
    assert try_to_load_from_cache(REPOSITORY, FILE, cache_dir=tmp_path) is None
    assert not scan_cache_dir(tmp_path).repos
