"""far-mesh and llama.cpp on the same file in turn: decode, prefill of 512 tokens, 32 sequences at once.

llama.cpp runs in this process through its C interface: greedy sampling inside the library, so Python adds one call a
step; its flash attention and repacked weights are as it chooses by default. far-mesh runs as `far-mesh bench --providers 0`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import llama_cpp as llama

PROMPT, DECODE, PREFILL = 16, 96, 512
FORMATS = {
    "Q4_1": None,
    "Q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0,
    "Q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_K": llama.LLAMA_FTYPE_MOSTLY_Q4_K_S,
}


class Peer:
    """A file in llama.cpp, with contexts as the measurements need them."""

    def __init__(self, path, threads):
        self.threads = threads
        params = llama.llama_model_default_params()
        self.model = llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.salt = 0

    def context(self, tokens, sequences):
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = tokens, 512, 512
        params.n_seq_max, params.kv_unified = sequences, False
        params.n_threads = params.n_threads_batch = self.threads
        params.no_perf = True
        return llama.llama_init_from_model(self.model, params)

    def prompt(self, tokens):
        self.salt += 31
        return [(at * 7919 + 13 + self.salt) % self.vocabulary for at in range(tokens)]

    def decode_batch(self, context, batch, rows):
        """`rows`: (token, position, sequence, whether logits are wanted)."""
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if llama.llama_decode(context, batch) != 0:
            sys.exit("llama.cpp failed to decode")

    def decode(self, sequences):
        """Tokens a second of `sequences` that decode in one batch, prompts not counted."""
        context = self.context(max(512, 256 * sequences), sequences)
        batch = llama.llama_batch_init(512, 0, 1)
        greedy = llama.llama_sampler_init_greedy()
        tokens = []
        for sequence in range(sequences):
            ids = self.prompt(PROMPT)
            self.decode_batch(context, batch, [(t, p, sequence, p == PROMPT - 1) for p, t in enumerate(ids)])
            tokens.append(llama.llama_sampler_sample(greedy, context, -1))
        started = time.perf_counter()
        for at in range(DECODE):
            self.decode_batch(context, batch, [(t, PROMPT + at, s, True) for s, t in enumerate(tokens)])
            tokens = [llama.llama_sampler_sample(greedy, context, i) for i in range(sequences)]
        elapsed = time.perf_counter() - started
        llama.llama_sampler_free(greedy)
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        return sequences * DECODE / elapsed

    def prefill(self):
        context = self.context(1024, 1)
        batch = llama.llama_batch_init(512, 0, 1)
        rows = [(t, p, 0, p == PREFILL - 1) for p, t in enumerate(self.prompt(PREFILL))]
        started = time.perf_counter()
        self.decode_batch(context, batch, rows)
        elapsed = time.perf_counter() - started
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        return PREFILL / elapsed

    def measure(self, sequences):
        return {"decode": self.decode(1), "prefill": self.prefill(), "batch": self.decode(sequences)}


def ours(program, path, threads, sequences):
    command = [program, "bench", "--providers", "0", "--rounds", "1", "--sessions", str(sequences)]
    command += ["--threads", str(threads), "--model", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    report = json.loads(done.stdout)
    one = report["one_process"]
    return {
        "decode": one["decode_tokens_per_s"],
        "prefill": one["prefill_tokens_per_s"],
        "batch": report["sessions"]["total_tokens_per_s"],
    }


def file_of(name, source, data):
    """The model in a format, made by llama.cpp's own quantizer from the file that is there."""
    ftype = FORMATS[name]
    if ftype is None:
        return source
    path = data / f"{source.stem}.as.{name}.gguf"
    if not path.exists():
        params = llama.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize = ftype, True
        part = path.with_suffix(".part")
        if llama.llama_model_quantize(str(source).encode(), str(part).encode(), params) != 0:
            sys.exit(f"llama.cpp cannot write {path}")
        part.rename(path)
    return path


def main():
    parser = argparse.ArgumentParser(description="Compare far-mesh with llama.cpp on this machine.")
    parser.add_argument("--program", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a name or the path of a Q4_1 file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(FORMATS)}; all when none is named")
    args = parser.parse_args()
    unknown = [name for name in args.formats if name not in FORMATS]
    if unknown:
        parser.error(f"no format {unknown[0]!r}: choose from {', '.join(FORMATS)}")

    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, None)
    llama.llama_backend_init()
    pull = [args.program, "models", "pull", args.model, "--json"]
    source = Path(json.loads(subprocess.run(pull, check=True, capture_output=True, text=True).stdout)["path"])
    report = {"llama_cpp": llama.llama_print_system_info().decode().strip(), "threads": args.threads, "formats": {}}
    print(f"llama.cpp: {report['llama_cpp']}; {args.threads} threads", file=sys.stderr)
    for name in args.formats or FORMATS:
        path = file_of(name, source, args.data)
        peer = Peer(path, args.threads)
        pairs = []
        for at in range(args.rounds + 1):
            pair = (ours(args.program, path, args.threads, args.sequences), peer.measure(args.sequences))
            # The first pair warms the disk's cache and is not counted.
            if at > 0:
                pairs.append(pair)
                shown = ", ".join(f"{kind} {pair[0][kind]:.0f} to {pair[1][kind]:.0f}" for kind in pair[0])
                print(f"{name} round {at} of {args.rounds}: {shown} tok/s", file=sys.stderr)
        llama.llama_model_free(peer.model)
        report["formats"][name] = {
            kind: {
                "ratio": round(statistics.median(a[kind] / b[kind] for a, b in pairs), 3),
                "far_mesh": round(statistics.median(a[kind] for a, _ in pairs), 1),
                "llama_cpp": round(statistics.median(b[kind] for _, b in pairs), 1),
            }
            for kind in ("decode", "prefill", "batch")
        }
    if args.json:
        print(json.dumps(report))
        return
    columns = {"decode": "decode", "prefill": f"prefill {PREFILL}", "batch": f"{args.sequences} sequences"}
    print(f"{'':6}" + "".join(f"{title:>28}" for title in columns.values()))
    for name, kinds in report["formats"].items():
        cells = (f"{v['far_mesh']:.0f} / {v['llama_cpp']:.0f} = {v['ratio']:.2f}" for v in kinds.values())
        print(f"{name:6}" + "".join(f"{cell:>28}" for cell in cells))
    print("tokens a second, far-mesh / llama.cpp = median of the ratios of neighbouring runs")


if __name__ == "__main__":
    main()
