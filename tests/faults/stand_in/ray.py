"""What symlab uses of ray, by threads of one process, with its faults on demand.

A file in the folder RAY_FAULTS names the next fault. `end`: the process ends by itself,
as ray's does when the head of the cluster is gone. `node`, `worker` and `task`: a call
raises what ray raises where the node of this machine is gone, a worker died, or a
worker cannot take the call; `worker` happens once.
"""

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

FAULTS = Path(os.environ["RAY_FAULTS"])
pool = ThreadPoolExecutor(2)
listening = socket.create_server(("127.0.0.1", 0))


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class LocalRayletDiedError(RayError):
    pass


exceptions = SimpleNamespace(
    RayError=RayError,
    RayTaskError=RayTaskError,
    LocalRayletDiedError=LocalRayletDiedError,
)


def watch():
    while not (FAULTS / "end").exists():
        time.sleep(0.02)
    os._exit(1)


def init(**where):
    if (FAULTS / "init").exists():
        raise RuntimeError("no cluster here")
    (FAULTS / "driver").write_text(str(os.getpid()))
    threading.Thread(target=watch, daemon=True).start()


def get_runtime_context():
    return SimpleNamespace(gcs_address=f"127.0.0.1:{listening.getsockname()[1]}")


def put(value):
    return value


class Call:
    def __init__(self, function):
        self.function = function

    def remote(self, *arguments):
        future = pool.submit(self.checked, *arguments)
        return SimpleNamespace(future=lambda: future)

    def checked(self, *arguments):
        if (FAULTS / "worker").exists():
            (FAULTS / "worker").unlink()
            raise RayError("a worker died")
        if (FAULTS / "node").exists():
            raise LocalRayletDiedError("the raylet died")
        if (FAULTS / "task").exists():
            raise RayTaskError("Traceback ...\nModuleNotFoundError: no numpy")
        return self.function(*arguments)


def remote(**options):
    return Call


def cancel(reference, force):
    pass


def shutdown():
    (FAULTS / "shutdown").touch()
    os._exit(0)
