"""A mesh of real processes that a script builds part by part, on loopback or on hosts of its own behind router.py."""

import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUTER = Path(__file__).with_name("router.py")
LAYERS = 30
THIRDS = ["0..10", "10..20", "20..30"]
# A prompt that was seen before is computed again.
SETTINGS = {"FAR_MESH_PREFIX_SHARING": "off"}
# How long a part may take to serve.
PATIENCE = 60.0


class Failed(Exception):
    """Something that should have happened did not."""


class Part:
    """A process of the program, and what it said when it was ready."""

    def __init__(self, name: str, host: str, address: str, process: subprocess.Popen, log: Path):
        self.name, self.host, self.address, self.process, self.log = name, host, address, process, log
        self.ready: dict = {}

    def await_ready(self, patience: float = PATIENCE) -> "Part":
        selector = selectors.DefaultSelector()
        selector.register(self.process.stdout, selectors.EVENT_READ)
        line = self.process.stdout.readline() if selector.select(patience) else b""
        try:
            self.ready = json.loads(line)
        except ValueError:
            raise Failed(f"{self.name} does not serve: {line!r}\n{self.log.read_text()[-2000:]}") from None
        return self

    @property
    def id(self) -> str:
        return self.ready["peer_id"]

    @property
    def http(self) -> tuple[str, int]:
        host, port = self.ready["http"].removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()

    def get(self, path: str, timeout: float = 5.0) -> dict:
        connection = http.client.HTTPConnection(*self.http, timeout=timeout)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class Lab:
    """Hosts, processes and, where `routed`, the network between them. Use it in a `with`."""

    def __init__(self, program: str, model: str, hosts: list[str], routed: bool):
        self.program, self.model, self.routed = program, model, routed
        self.parts: list[Part] = []
        self.folder = tempfile.TemporaryDirectory(prefix="far-mesh-lab-")
        self.dir = Path(self.folder.name)
        self.psk = self.dir / "mesh.key"
        self.psk.write_text(f"/key/swarm/psk/1.0.0/\n/base16/\n{os.urandom(32).hex()}\n")
        self.psk.chmod(0o600)
        self.router = None
        self.addresses = {host: "127.0.0.1" for host in hosts}
        if routed:
            self.addresses = {host: f"10.9.0.{at + 2}" for at, host in enumerate(hosts)}
            for host in hosts:
                subprocess.run(["ip", "netns", "add", host], check=True)
            pairs = [f"{host}={address}" for host, address in ({".": "10.9.0.1"} | self.addresses).items()]
            self.control = self.dir / "router.sock"
            command = [sys.executable, str(ROUTER), "--control", str(self.control), *pairs]
            self.router = subprocess.Popen(command, stdout=subprocess.PIPE)
            if self.router.stdout.readline() != b"ready\n":
                raise Failed("the router does not start")
        self.discovery = self.start("discovery", hosts[0], ["discovery"]).await_ready()

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        for part in self.parts:
            part.kill()
        if self.router:
            self.router.kill()
            self.router.wait()
        self.folder.cleanup()

    def start(self, name: str, host: str, args: list[str]) -> Part:
        """Starts a process; it may not serve yet."""
        number = len(list(self.dir.iterdir()))
        folder, address = self.dir / f"{number}-{name}", self.addresses[host]
        folder.mkdir()
        command = ["ip", "netns", "exec", host] if self.routed else []
        command += [self.program, *args, "--data-dir", str(folder), "--psk", str(self.psk)]
        command += ["--listen", f"/ip4/{address}/tcp/0", "--http", f"{address}:0", "--json", "--until-stdin-closes"]
        if args != ["discovery"]:
            command += ["--bootstrap", self.discovery.ready["listen"][0], "--model", self.model]
        log = folder / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=os.environ | SETTINGS)
        part = Part(name, host, address, process, log)
        self.parts.append(part)
        return part

    def coordinator(self) -> Part:
        # Others reach its address, and none of them has a key.
        return self.start("coordinator", "coordinator", ["coordinator", "--require-keys", "off"])

    def provider(self, layers: str, host: str) -> Part:
        return self.start(f"provider-{layers}", host, ["provider", "run", "--layers", layers])

    def end(self, part: Part) -> None:
        """Kills a part: nobody hears of it again."""
        self.parts.remove(part)
        part.kill()

    def link(self, source: str, target: str, **settings: float) -> None:
        """What befalls packets from one host to another; `*` is every host."""
        words = " ".join(f"{key}={value}" for key, value in settings.items())
        answer = self.ask_router(f"set {source} {target} {words}")
        if answer != "ok":
            raise Failed(f"router: {answer}")

    def ask_router(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.control))
            control.sendall(command.encode())
            return control.recv(4096).decode()

    def until_listed(self, coordinator: Part, providers: list[Part], patience: float = PATIENCE) -> None:
        """Waits until the coordinator would use all of these and no others."""
        want, deadline, listed = {part.id for part in providers}, time.monotonic() + patience, set()
        model = None
        while time.monotonic() < deadline:
            try:
                model = model or coordinator.get("/models")["models"][0]["id"]
                listed = {node["node_id"] for node in coordinator.get(f"/models/{model}/nodes")["nodes"]}
            except (OSError, LookupError, ValueError):
                listed = set()
            if listed >= want:
                return
            time.sleep(0.05)
        missing = [part.name for part in providers if part.id not in listed]
        raise Failed(f"not in the coordinator's table after {patience} s: {missing}")


class Generation:
    """One greedy generation over HTTP, token by token."""

    def __init__(self, coordinator: Part, prompt: str, tokens: int, timeout: float = 60.0):
        self.tokens: list[str] = []
        self.indexes: list[int] = []
        self.times: list[float] = []
        self.error: str | None = None
        self.done: dict | None = None
        self.connection = http.client.HTTPConnection(*coordinator.http, timeout=timeout)
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0.0}
        self.began = time.monotonic()
        self.connection.request("POST", "/inference/generate", json.dumps(body), {"content-type": "application/json"})

    def __iter__(self):
        """Tokens as they come; ends with the answer, or with `error`."""
        try:
            response = self.connection.getresponse()
            if response.status != 200:
                self.error = f"{response.status} {response.read().decode(errors='replace')}"
                return
            while line := response.readline():
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                event = json.loads(line[6:])
                if "token" in event:
                    self.tokens.append(event["token"])
                    self.indexes.append(event["index"])
                    self.times.append(time.monotonic())
                    yield event["token"]
                elif "error" in event:
                    self.error = event["error"]["message"]
                else:
                    self.done = event
        except (OSError, http.client.HTTPException) as error:
            self.error = repr(error)
        finally:
            self.connection.close()
        if not self.done and not self.error:
            self.error = "the stream ended without a word"

    def finish(self) -> "Generation":
        for _ in self:
            pass
        return self

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.times[0] - self.began if self.times else float("inf")

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens."""
        return [b - a for a, b in zip(self.times, self.times[1:])]


def percentile(values: list[float], share: float) -> float:
    """The value that this share does not pass (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -(-int(share * 100) * len(ranked) // 100) - 1)] if ranked else 0.0
