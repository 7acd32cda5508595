"""Time per token over distance, held against the physical limit. Run it through tests/bench/distance."""

import argparse
import json
import statistics
import sys

from lab import THIRDS, Generation, Lab

PROMPT = "Once upon a time, in a small village by the sea, there lived"


def per_token(coordinator, tokens: int, rounds: int) -> tuple[float, list[str]]:
    """Median seconds between tokens, over several generations, and the words."""
    gaps, words = [], []
    for _ in range(rounds):
        generation = Generation(coordinator, PROMPT, tokens).finish()
        if generation.error:
            sys.exit(f"a generation failed: {generation.error}")
        gaps += generation.gaps
        words = generation.tokens
    return statistics.median(gaps), words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rtt", type=float, default=20.0, help="milliseconds between any two hosts [default: 20]")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    hosts = ["coordinator", "first", "middle", "last"]
    with Lab(args.program, args.model, hosts, routed=True) as lab:
        providers = [lab.provider(layers, host) for layers, host in zip(THIRDS, hosts[1:])]
        for provider in providers:
            provider.await_ready()
        coordinator = lab.coordinator().await_ready()
        lab.until_listed(coordinator, providers)
        per_token(coordinator, args.tokens, 1)
        near, near_words = per_token(coordinator, args.tokens, args.rounds)
        for a in hosts:
            for b in hosts:
                if a != b:
                    lab.link(a, b, delay=args.rtt / 2)
        # The way to whoever measures costs nothing: the first generation measures the round trips anew.
        per_token(coordinator, args.tokens, 1)
        far, far_words = per_token(coordinator, args.tokens, args.rounds)
    ways = len(THIRDS) + 1
    limit = near + ways * args.rtt / 2 / 1000
    result = {
        "rtt_ms": args.rtt,
        "tokens": args.tokens * args.rounds,
        "near_ms": near * 1000,
        "limit_ms": limit * 1000,
        "far_ms": far * 1000,
        "ratio": far / limit,
        "identical": near_words == far_words,
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{len(THIRDS)} providers and a coordinator, each on a host of its own, one router between them")
        print(f"  no distance      {near * 1000:7.2f} ms a token: compute, and {ways} ways through the router")
        print(f"  the limit        {limit * 1000:7.2f} ms: that and {ways} ways of {args.rtt / 2:g} ms")
        print(f"  {args.rtt:g} ms round trip {far * 1000:7.2f} ms a token: {far / limit:.3f} of the limit")
        print(f"  the same words: {'yes' if result['identical'] else 'NO'}")
    if not result["identical"]:
        sys.exit("distance changed the words")


if __name__ == "__main__":
    main()
