"""An upload service on this machine that speaks the zoo's API, keeps what it gets, and can misbehave."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: what every test uploads with; it must be found nowhere but in the header
TOKEN = "eyJSENTINEL.token-of.nobody_00"  # noqa: S105 - nobody takes it but the stub


@dataclass
class Fault:
    """What a request gets in place of its answer."""

    status: int = 200
    reply: object = None  #: as JSON; bytes as they are
    location: str | None = None
    cut: int | None = None  #: nothing is answered, after so many bytes of the body were read
    pause: float = 0  #: seconds before the answer


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Staged:
    """A model on the server."""

    manifest: dict
    files: dict = field(default_factory=dict)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        fault = self.fault(self.path.rpartition("/")[2])
        if fault and fault.cut is not None:
            self.cut(fault.cut)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.note(body)
        if fault:
            self.misbehave(fault)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(403, {"success": False, "detail": "PermissionError: invalid token"})
        else:
            getattr(self, self.path.rpartition("/")[2])(json.loads(body))

    def create(self, body):
        name = f"bioimage-io/nice-fish{len(self.server.staged) or ''}"
        self.server.staged[name] = Staged(manifest=body["manifest"])
        self.answer(200, {"id": name, "manifest": body["manifest"]})

    def put_file(self, body):
        if body["artifact_id"] not in self.server.staged:
            self.answer(404, {"success": False, "detail": "Artifact does not exist"})
            return
        place = f"/storage/{body['artifact_id']}:{body['file_path']}?X-Amz-Signature=5ecret"
        self.answer(200, self.server.url(place))

    def edit(self, body):
        self.server.staged[body["artifact_id"]].manifest = body["manifest"]
        self.answer(200, {"id": body["artifact_id"]})

    def do_PUT(self):
        name, _, file = self.path.removeprefix("/storage/").partition("?")[0].partition(":")
        fault = self.fault(f"PUT {file}") or self.fault("PUT")
        if fault and fault.cut is not None:
            self.cut(fault.cut)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.note(body)
        if fault:
            self.misbehave(fault)
        else:
            self.server.staged[name].files[file] = body
            self.answer(200, b"")

    def fault(self, call):
        faults = self.server.faults.get(call)
        return faults.pop(0) if faults else None

    def misbehave(self, fault):
        time.sleep(fault.pause)
        self.answer(fault.status, fault.reply, location=fault.location)

    def cut(self, count):
        self.rfile.read(min(count, int(self.headers["Content-Length"])))
        self.note(b"")
        self.close_connection = True

    def note(self, body):
        self.server.asked.append(Asked(self.command, self.path, dict(self.headers), body))

    def answer(self, status, reply, *, location=None):
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class UploadStub(ThreadingHTTPServer):
    """Keeps what was `asked` and `staged`; `faults` has what the next requests get, by call or ``PUT NAME``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.staged = {}
        self.faults = {}

    def handle_error(self, *_):  # clients that have gone
        pass

    def url(self, path="/services/artifact-manager"):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def calls(self):
        """What was asked, in short."""
        return [
            one.path.rpartition("/")[2]
            if one.method == "POST"
            else f"PUT {one.path.partition('?')[0].partition(':')[2]}"
            for one in self.asked
        ]


@contextmanager
def serving():
    """A stub that answers while the block lasts."""
    with UploadStub() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
