"""Faults in a mesh of real processes: what a client sees of them. Run it through tests/faults."""

import argparse
import itertools
import json
import random
import signal
import sys
import threading
import time

from lab import PATIENCE, THIRDS, Failed, Generation, Lab, Part, percentile

FAULTS = ["kill", "stop", "blackhole", "half-open", "garbage", "slow"]
# These take a router between the hosts.
ROUTED = {"blackhole", "half-open", "garbage"}
MOMENTS = ["prefill", "early", "mid", "late"]
HOPS = {"first": [0], "middle": [1], "last": [2], "two": [0, 2]}
# The hosts of each third's providers.
PROVIDERS = [[f"p{third}{copy}" for copy in range(2)] for third in range(3)]
TOKENS = 64
# Tokens that are there when a fault strikes.
RESULTS = {"early": 2, "mid": TOKENS // 2, "late": TOKENS - 6}
# What the share of all sessions may have to wait at once, in seconds; of fewer sessions the shares say nothing.
BOUNDS = {0.5: 1.0, 0.99: 2.0}
BOUNDED = 100
# Generations that are tried until a fault strikes one in time.
TRIES = 5
SHORT = "Once upon a time, in a small village by the sea, there lived"
# Long enough to be struck within.
LONG = SHORT + " an old man who told his stories to whoever had the patience to hear them," * 40
# A process at a tenth of its speed runs this many seconds, then stands still for nine times as long.
SLICE = 0.005


class Slowed:
    """Slows a process to a tenth until it is told otherwise."""

    def __init__(self, part: Part):
        self.part, self.over = part, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.over.is_set():
            self.part.signal(signal.SIGSTOP)
            time.sleep(9 * SLICE)
            self.part.signal(signal.SIGCONT)
            time.sleep(SLICE)

    def end(self) -> None:
        self.over.set()
        self.thread.join()


class Mesh:
    """Two providers of each third and a coordinator; who was struck is replaced by a process that nobody knows."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.providers = [[lab.provider(layers, host) for host in hosts] for layers, hosts in zip(THIRDS, PROVIDERS)]
        for provider in self.all():
            provider.await_ready()
        self.coordinator = lab.coordinator().await_ready()
        lab.until_listed(self.coordinator, self.all())

    def all(self) -> list[Part]:
        return [provider for third in self.providers for provider in third]

    def serving(self, third: int, patience: float = 10.0) -> Part:
        """The provider of a third that has a session."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for provider in self.providers[third]:
                if provider.get("/health")["sessions"]:
                    return provider
        raise Failed(f"nobody has a session in layers {THIRDS[third]}")

    def replace(self, struck: list[Part]) -> None:
        for third, copies in enumerate(self.providers):
            for at, part in enumerate(copies):
                if part in struck:
                    self.lab.end(part)
                    copies[at] = self.lab.provider(THIRDS[third], part.host)
        for provider in self.all():
            if not provider.ready:
                provider.await_ready()
        self.lab.until_listed(self.coordinator, self.all())

    def idle(self) -> None:
        """Waits until every session is over everywhere."""
        deadline = time.monotonic() + PATIENCE
        while any(provider.get("/health")["sessions"] for provider in self.all()):
            if time.monotonic() > deadline:
                raise Failed("sessions are left")
            time.sleep(0.02)


class Strike:
    """A fault that befalls providers; `end` takes it from the network."""

    def __init__(self, lab: Lab, fault: str, struck: list[Part]):
        self.lab, self.fault, self.struck = lab, fault, struck
        self.slowed, self.at = [], time.monotonic()
        for part in struck:
            match fault:
                case "kill":
                    part.signal(signal.SIGKILL)
                case "stop":
                    part.signal(signal.SIGSTOP)
                case "slow":
                    self.slowed.append(Slowed(part))
                case "blackhole":
                    lab.link(part.host, "*", drop=1)
                    lab.link("*", part.host, drop=1)
                case "half-open":
                    lab.link(part.host, "*", drop=1)
                case "garbage":
                    lab.link(part.host, "*", garble=1)

    def end(self) -> None:
        for slowed in self.slowed:
            slowed.end()
        for part in self.struck:
            if self.fault == "stop":
                part.signal(signal.SIGCONT)
            if self.fault in ROUTED:
                self.lab.link(part.host, "*", drop=0, garble=0)
                self.lab.link("*", part.host, drop=0)


def disturbed(mesh: Mesh, fault: str, moment: str, hops: list[int]) -> Generation:
    """A generation in which a fault strikes. The mesh is whole again when this returns."""
    for _ in range(TRIES):
        generation = Generation(mesh.coordinator, LONG if moment == "prefill" else SHORT, TOKENS)
        strike = None
        try:
            tokens = iter(generation)
            if moment != "prefill":
                next(tokens, None)
            struck = [mesh.serving(hop) for hop in hops]
            if moment == "prefill":
                # Somewhere within the prompt, which takes longer than this.
                time.sleep(random.uniform(0, 0.15))
                strike = Strike(mesh.lab, fault, struck)
            for _ in tokens:
                if not strike and len(generation.tokens) > RESULTS[moment]:
                    strike = Strike(mesh.lab, fault, struck)
        finally:
            if strike:
                strike.end()
        if strike:
            mesh.replace(strike.struck)
        mesh.idle()
        # An answer that was whole before the fault struck says nothing.
        if strike and (generation.error or generation.times[-1] > strike.at):
            return generation
    raise Failed(f"{fault} at {moment} came too late {TRIES} times: {generation.error}")


class Tally:
    """Figures of a case."""

    def __init__(self, fault: str, moment: str, hop: str):
        self.fault, self.moment, self.hop = fault, moment, hop
        self.sessions = self.survived = self.identical = self.lost = self.repeated = 0
        self.pauses: list[float] = []
        self.errors: list[str] = []

    def add(self, generation: Generation, want: Generation, moment: str) -> None:
        self.sessions += 1
        self.survived += generation.error is None
        self.identical += generation.tokens == want.tokens
        indexes = generation.indexes
        self.lost += len(set(want.indexes) - set(indexes))
        self.repeated += len(indexes) - len(set(indexes))
        if generation.error:
            self.errors.append(generation.error)
        else:
            # Of a prompt what it took longer than undisturbed, of tokens the longest wait for one.
            waits = generation.gaps + ([max(0.0, generation.first - want.first)] if moment == "prefill" else [])
            self.pauses.append(max(waits))

    def figures(self) -> dict:
        pauses = {name: round(percentile(self.pauses, share) * 1000, 1) for name, share in
                  [("p50", 0.5), ("p99", 0.99), ("max", 1.0)]}
        return {"fault": self.fault, "at": self.moment, "hop": self.hop, "sessions": self.sessions,
                "survived": self.survived, "identical": self.identical, "lost": self.lost,
                "repeated": self.repeated, "pause_ms": pauses, "errors": self.errors}

    def too_long(self) -> list[str]:
        waits = {share: percentile(self.pauses, share) for share in BOUNDS} if self.sessions >= BOUNDED else {}
        return [f"{share:.0%} of the sessions paused up to {wait:.2f} s (at most {BOUNDS[share]:.0f} s)"
                for share, wait in waits.items() if wait > BOUNDS[share]]

    def is_whole(self) -> bool:
        return self.survived == self.identical == self.sessions and not self.lost and not self.repeated

    HEAD = f"{'fault':<10} {'at':<8} {'hop':<7} sessions survived identical  lost repeated  pause p50      p99      max"

    def __str__(self) -> str:
        pause = [f"{percentile(self.pauses, share) * 1000:5.0f} ms" for share in (0.5, 0.99, 1.0)]
        return (f"{self.fault:<10} {self.moment:<8} {self.hop:<7} {self.sessions:>8} {self.survived:>8}"
                f" {self.identical:>9} {self.lost:>5} {self.repeated:>8}   {' '.join(pause)}")


def choice(known: list[str]):
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if wrong := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: choose from {', '.join(known)}")
        return chosen

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/faults", description=__doc__)
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--routed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sessions", type=int, default=10, help="of each case [default: 10]")
    parser.add_argument("--fault", type=choice(FAULTS), default=FAULTS, help=f"some of {','.join(FAULTS)} [default: all]")
    parser.add_argument("--at", type=choice(MOMENTS), default=MOMENTS, help=f"some of {','.join(MOMENTS)} [default: all]")
    parser.add_argument("--hop", type=choice(list(HOPS)), default=list(HOPS), help=f"some of {','.join(HOPS)} [default: all]")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance [default: 0]")
    parser.add_argument("--json", action="store_true", help="one object a case instead of a table")
    args = parser.parse_args()
    random.seed(args.seed)
    faults = [fault for fault in args.fault if args.routed or fault not in ROUTED]
    if left_out := [fault for fault in args.fault if fault not in faults]:
        print(f"left out, for this machine allows no network namespaces: {', '.join(left_out)}", file=sys.stderr)
    hosts = ["discovery", "coordinator", *itertools.chain(*PROVIDERS)]
    started, bad = time.monotonic(), []
    with Lab(args.program, args.model, hosts, routed=args.routed) as lab:
        mesh = Mesh(lab)
        want = {prompt: Generation(mesh.coordinator, prompt, TOKENS).finish() for prompt in (SHORT, LONG)}
        if errors := [generation.error for generation in want.values() if generation.error]:
            raise Failed(f"undisturbed: {errors}")
        if not args.json:
            print(f"{TOKENS} tokens; undisturbed {percentile(want[SHORT].gaps, 0.5) * 1000:.1f} ms a token,"
                  f" {want[LONG].first * 1000:.0f} ms for the long prompt")
            print(Tally.HEAD, flush=True)
        everything = Tally("all", "", "")
        for fault, moment, hop in itertools.product(faults, args.at, args.hop):
            tally = Tally(fault, moment, hop)
            for _ in range(args.sessions):
                generation = disturbed(mesh, fault, moment, HOPS[hop])
                for which in (tally, everything):
                    which.add(generation, want[LONG if moment == "prefill" else SHORT], moment)
            print(json.dumps(tally.figures()) if args.json else tally, flush=True)
            for error in tally.errors:
                print(f"    {error}", file=sys.stderr)
            if not tally.is_whole():
                bad.append(f"{fault} at {moment}, {hop}")
        if not args.json:
            print(everything)
            print(f"{time.monotonic() - started:.0f} s")
    bad = [f"tokens were lost, repeated or changed: {'; '.join(bad)}"] if bad else []
    if bad := bad + everything.too_long():
        sys.exit("\n".join(bad))


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"tests/faults: {error}")
