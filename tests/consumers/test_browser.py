"""ONNX weights in a browser: onnxruntime-web (WebAssembly, one thread) in headless Chromium."""

import json
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

PAGE = Path(__file__).parent / "browser"
TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
#: s; from the start of Chromium to the last output
TIME_LIMIT = 120


class Exchange:
    """What the page gets and what it sends back."""

    def __init__(self, weights, inputs, onnxruntime_web):
        self.inputs, self.weights, self.onnxruntime_web = inputs, weights, onnxruntime_web
        self.outputs = []
        self.error = ""
        self.ended = threading.Event()

    def get(self, path):
        """Content and its type; None if there is no such thing."""
        if path == "/weights.onnx":
            return self.weights.read_bytes(), "application/octet-stream"
        if path == "/inputs.json":
            return json.dumps([values.shape for values in self.inputs]).encode(), "application/json"
        if path.startswith("/inputs/"):
            return self.inputs[int(path.removeprefix("/inputs/"))].tobytes(), "application/octet-stream"
        name = path.rpartition("/")[2] or "index.html"
        file = (self.onnxruntime_web if path.startswith("/onnxruntime-web/") else PAGE) / name
        return (file.read_bytes(), TYPES[file.suffix]) if file.is_file() else None

    def post(self, path, body):
        address = urlsplit(path)
        if address.path == "/end":
            self.error = body.decode()
            self.ended.set()
        else:
            shape = [int(size) for size in parse_qs(address.query)["shape"][0].split(",")]
            self.outputs.append(np.frombuffer(body, dtype="<f4").reshape(shape))


@contextmanager
def serving(exchange):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(exchange.get(urlsplit(self.path).path))

        def do_POST(self):
            exchange.post(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self._answer((b"", "text/plain"))

        def _answer(self, found):
            content, kind = found or (b"", "text/plain")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def in_browser(chromium, onnxruntime_web, tmp_path):
    """The outputs of weights for inputs, from a page."""

    def run(weights, inputs):
        exchange = Exchange(weights, inputs, onnxruntime_web)
        with serving(exchange) as address, (tmp_path / "chromium.log").open("w") as log:
            arguments = [
                "--headless=new",
                "--no-sandbox",  # root in a container has none; the page is ours
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but this server
                f"--user-data-dir={tmp_path / 'profile'}",
            ]
            browser = subprocess.Popen([chromium, *arguments, address], stdout=log, stderr=log)
            try:
                ended = exchange.ended.wait(TIME_LIMIT)
            finally:
                browser.terminate()
                browser.wait(30)
        assert ended, f"no answer in {TIME_LIMIT} s: {(tmp_path / 'chromium.log').read_text()[-2000:]}"
        if exchange.error:
            raise RuntimeError(exchange.error)
        return exchange.outputs

    return run


def test_it_gives_what_the_network_gives_at_two_sizes(model_package, in_browser):
    inputs = model_package.inputs
    outputs = in_browser(model_package.weights("onnx"), inputs)
    for output, values in zip(outputs, inputs, strict=True):
        model_package.assert_close(output, model_package.expected(values))


def test_it_runs_trees_as_sklearn_does(tree_model, in_browser):
    [output] = in_browser(tree_model.path, [tree_model.inputs])
    np.testing.assert_allclose(output, tree_model.expected, atol=1e-6)


def test_a_file_that_is_no_network_is_an_error_with_its_reason(in_browser, tmp_path):
    (tmp_path / "weights.onnx").write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="protobuf"):
        in_browser(tmp_path / "weights.onnx", [])
