"""A zoo on this machine: a web server that can misbehave, with small models on it and the lists of them."""

import hashlib
import json
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bioimageio.spec.utils import write_yaml


@dataclass
class Resource:
    """What is at a path, and how it is sent."""

    content: bytes = b""
    etag: str | None = '"1"'
    modified: str | None = None  #: Last-Modified
    ranges: bool = True  #: whether a part of it is sent when that is asked for
    shift: int = 0  #: where the part begins, too late by so many bytes
    cuts: list = field(default_factory=list)  #: the next answers end after so many bytes
    length: int | None = None  #: as announced, in place of the true one; -1: none is announced
    encoding: str | None = None
    statuses: list = field(default_factory=list)  #: the next answers are these errors
    location: str | None = None  #: leads elsewhere
    pause: float = 0  #: seconds, after half of the content


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        resource = self.server.resources.get(self.path)
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.server.encodings.add(self.headers.get("Accept-Encoding"))
        if resource is None or resource.statuses:
            self.send_error(resource.statuses.pop(0) if resource else 404)
        elif resource.location:
            self.send_response(302)
            self.send_header("Location", resource.location)
            self.end_headers()
        else:
            self.send(resource)

    def send(self, resource):
        content, first = resource.content, self.first(resource)
        if first is None:
            self.send_response(200)
        elif first >= len(content):
            self.send_error(416)
            return
        else:
            first += resource.shift
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        body = content[first or 0 :]
        headers = {"ETag": resource.etag, "Last-Modified": resource.modified, "Content-Encoding": resource.encoding}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        if resource.length != -1:
            self.send_header("Content-Length", str(len(body) if resource.length is None else resource.length))
        self.end_headers()
        body = body[: resource.cuts.pop(0)] if resource.cuts else body
        half = len(body) // 2 if resource.pause else len(body)
        self.wfile.write(body[:half])
        time.sleep(resource.pause)
        self.wfile.write(body[half:])

    def first(self, resource):
        """The first byte that is wanted; None for the whole."""
        wanted, version = self.headers.get("Range"), self.headers.get("If-Range")
        is_same = version is None or version in {resource.etag, resource.modified}
        return int(wanted[len("bytes=") : -1]) if wanted and resource.ranges and is_same else None

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Serves `resources`; `asked` tells what was asked for, (path, range); `encodings` how."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.resources = {}
        self.asked = []
        self.encodings = set()

    def handle_error(self, *_):  # clients that have gone
        pass

    def url(self, path=""):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def put(self, path, content=b"", **how):
        """Place something at a path."""
        self.resources[path] = Resource(content=content, **how)
        return self.url(path)

    def count(self, path):
        return sum(asked == path for asked, _ in self.asked)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


WEIGHTS = bytes(range(256)) * 40
FILES = {"weights.pt": WEIGHTS, "input.npy": b"in", "README.md": b"# Tiny"}


def as_yaml(rdf, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yaml(rdf, path)
    return path.read_bytes()


@dataclass
class Zoo:
    """Models on the server, with the two lists of them."""

    server: Server
    folder: Path
    items: dict = field(default_factory=dict)
    manifests: dict = field(default_factory=dict)

    def publish(self, name, rdf, files, *, version="v0", query="?version=v0", **item):
        """Put a model on the server, and into both lists."""
        content = as_yaml(rdf, self.folder / "served.yaml")
        source = self.server.put(f"/{name}/files/rdf.yaml{query}", content)
        for file, data in files.items():
            self.server.put(f"/{name}/files/{file}{query}", data)
        versions = self.items.setdefault(name, [])
        versions.append({"version": version, "source": source, "sha256": sha256(content), **item})
        self.manifests[name] = rdf
        self.list()

    def list(self):
        index = [
            {"id": f"bioimage-io/{name}", "type": "model", "versions": versions}
            for name, versions in self.items.items()
        ]
        manifests = [
            {"id": f"bioimage-io/{name}", "type": "model", "manifest": rdf} for name, rdf in self.manifests.items()
        ]
        dataset = {"id": "bioimage-io/cells", "type": "dataset"}
        self.server.put("/index.json", json.dumps({"items": [dataset, *index]}).encode())
        self.server.put("/list.json", json.dumps([dataset, *manifests]).encode())
