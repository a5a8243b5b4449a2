"""The worker (`s2d_zoo.validate.worker`), seen from the process that has work for it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final

from s2d_zoo.errors import PackageError

#: macOS has fork, but its libraries may not survive one
CAN_FORK: Final = hasattr(os, "fork") and sys.platform != "darwin"
#: what `WorkerProcess.ask` gives for work that reached its time limit: the signal of an alarm, which Windows lacks
TIMED_OUT: Final = -14
#: -P: the working directory may hold a foreign package, whose numpy.py must not be imported
_COMMAND: Final = (sys.executable, "-P", "-W", "ignore", "-m", "s2d_zoo.validate.worker")
#: for the worker to import its libraries, from a slow disk
_SECONDS_TO_START: Final = 180.0
#: after the alarm that the work sets for itself, before it is ended from here
_SECONDS_OF_GRACE: Final = 5.0
#: names of variables whose values are no business of networks from packages
_SECRET: Final = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY", re.IGNORECASE)
#: characters of a log that make a reason
_LOG_END: Final = 600


class WorkerProcess:
    """One worker: started when there is work, started again when it has gone, ended by `stop`."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        #: by process, since one that was inherited through a fork belongs to another
        self._workers: dict[int, subprocess.Popen[str]] = {}

    def ask(self, folder: Path, seconds: float) -> int:
        """Have the work in a folder done.

        Returns:
            The exit code of the process that did it: 0 if it ended by itself, negative for the signal that ended it,
            `TIMED_OUT` for the time limit.

        Raises:
            PackageError: if the worker cannot be started.
        """
        with self._one_at_a_time:
            try:
                worker = self._running()
                answer, in_time = _exchange(worker, json.dumps({"folder": str(folder)}), seconds + _SECONDS_OF_GRACE)
                if answer:
                    return int(json.loads(answer)["exit_code"])
                exit_code = worker.wait()
            except BaseException:  # also an interrupt: the next request must not get the answer to this one
                self._stop()
                raise
            self._stop()
            return exit_code if in_time else TIMED_OUT

    def stop(self) -> None:
        """End the worker, if there is one; the next work starts another."""
        with self._one_at_a_time:
            self._stop()

    def _stop(self) -> None:
        worker = self._workers.pop(os.getpid(), None)
        if worker is not None:
            # closes the pipes, though what was not sent any more can be lost then, and waits
            with contextlib.suppress(BrokenPipeError), worker:
                _kill(worker)

    def _running(self) -> "subprocess.Popen[str]":
        worker = self._workers.get(os.getpid())
        if worker is not None and worker.poll() is None:
            return worker
        self._stop()
        with tempfile.TemporaryFile() as log:
            worker = subprocess.Popen(  # noqa: S603 - a module of this package
                [*_COMMAND, *(() if CAN_FORK else ("--once",))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                env=_environment(),
                start_new_session=True,  # so that Ctrl-C reaches this process alone, and all children can be ended
            )
            self._workers[os.getpid()] = worker
            if _exchange(worker, "", _SECONDS_TO_START)[0]:
                return worker
            self._stop()
            log.seek(0)
            reason = end_of_log(log.read().decode(errors="replace"))
        msg = f"The process that runs networks could not be started, so they cannot be checked: {reason}"
        raise PackageError(msg)


def _environment() -> dict[str, str]:
    """That of this process without its secrets, and with settings of the C libraries.

    Each thread reserves addresses for an arena of its own, which is no memory that a network needs; and threads that
    wait for each other should not keep other programs from the processor.
    """
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    return {"OMP_WAIT_POLICY": "PASSIVE", **kept, "MALLOC_ARENA_MAX": "2"}


def end_of_log(text: str) -> str:
    """The end of what a process wrote, in one line."""
    words = " ".join(text.split())
    return words if len(words) <= _LOG_END else f"… {words[-_LOG_END:]}"


def _exchange(worker: "subprocess.Popen[str]", message: str, seconds: float) -> tuple[str, bool]:
    """Send a line, if there is one to send; give the next line from there (empty if it ended), and if it was in time.

    After so many seconds the worker and all its children are ended.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(worker)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        if worker.stdin is None or worker.stdout is None:
            msg = "expected a process with pipes"
            raise TypeError(msg)
        if message:
            worker.stdin.write(message + "\n")
            worker.stdin.flush()
        answer = worker.stdout.readline()
    except BrokenPipeError:
        answer = ""
    finally:
        timer.cancel()
    return answer, not late.is_set()


def _kill(worker: "subprocess.Popen[str]") -> None:
    """End a worker and its children at once; nothing if they have ended."""
    if sys.platform == "win32":
        worker.kill()
    elif worker.returncode is None:  # else its number may be that of another process by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
