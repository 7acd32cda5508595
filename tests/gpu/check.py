"""The runtime on a device against `transformers`: logits, greedy tokens, and times in turn."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import checkpoints

# Greatest relative error of logits against float32, ||ours - reference|| / ||reference||, over all compared positions.
BF16_ERROR, EXACT_ERROR = 1e-2, 1e-4
PROMPT, FORCED, CHUNK = 160, 32, 64
ROUNDS = 3


class Runner:
    """`model-runner` with a model on the device."""

    def __init__(self, args, model, arena_tokens, precision="packed", quantize="none"):
        self.out = args.data / "logits.bin"
        config = {
            "model": str(model),
            "device": args.device,
            "precision": precision,
            "quantize": quantize,
            "threads": args.threads,
            "arena_tokens": arena_tokens,
        }
        self.process = subprocess.Popen(
            [args.runner, json.dumps(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ready = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"model-runner ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def logits(self, prompt, forced):
        self.ask(op="logits", prompt=prompt, forced=forced, chunk=CHUNK, out=str(self.out))
        return np.fromfile(self.out, dtype="<f4").reshape(1 + len(forced), -1)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def reference(model, prompt, steps):
    """Float32 logits after the prompt and after each greedy token, and those tokens."""
    device = next(model.parameters()).device
    rows, ids = [], list(prompt)
    with torch.no_grad():
        out = model(torch.tensor([ids], device=device), use_cache=True)
        for _ in range(steps):
            rows.append(out.logits[0, -1].float().cpu().numpy())
            ids.append(int(rows[-1].argmax()))
            out = model(torch.tensor([ids[-1:]], device=device), past_key_values=out.past_key_values, use_cache=True)
        rows.append(out.logits[0, -1].float().cpu().numpy())
    return np.stack(rows), ids[len(prompt) :]


def compare(ours, theirs):
    """Relative error, and how many greedy tokens agree of those whose margin is beyond the error at that position."""
    error = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    top = np.sort(theirs, axis=1)
    clear = top[:, -1] - top[:, -2] > 2 * np.abs(ours - theirs).max(axis=1)
    agree = ours.argmax(axis=1) == theirs.argmax(axis=1)
    return {
        "relative_error": error,
        "clear": int(clear.sum()),
        "clear_agree": int((clear & agree).sum()),
        "agree": int(agree.sum()),
        "positions": len(agree),
    }


def made_up(vocabulary, tokens, salt=0):
    return [(at * 7919 + 13 + salt) % vocabulary for at in range(tokens)]


def check_small(args, report):
    device = args.torch_device
    for name, config in checkpoints.small().items():
        folder = args.data / name
        checkpoints.make(config, folder, device)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        prompt = made_up(config.vocab_size, PROMPT)
        theirs, ids = reference(model, prompt, FORCED)
        del model
        for precision in ("packed", "exact"):
            runner = Runner(args, folder, 2048, precision)
            found = compare(runner.logits(prompt, ids), theirs)
            runner.end()
            limit = EXACT_ERROR if precision == "exact" else BF16_ERROR
            found["ok"] = found["relative_error"] < limit and found["clear"] == found["clear_agree"]
            report["logits"][f"{name} {precision}"] = found
            show_logits(f"{name} {precision}", found, limit)


def check_8b(args, report):
    folder = args.data / "llama3-8b"
    config = checkpoints.llama3_8b()
    print("making a random Llama 3 of 8 billion parameters", file=sys.stderr)
    checkpoints.make(config, folder, args.torch_device)
    prompt = made_up(config.vocab_size, PROMPT)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(args.torch_device).eval()
    theirs, ids = reference(model, prompt, FORCED)
    del model
    torch.cuda.empty_cache()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(args.torch_device).eval()
    own = Runner(args, folder, 32 * 512)
    found = compare(own.logits(prompt, ids), theirs)
    found["ok"] = found["relative_error"] < BF16_ERROR and found["clear"] == found["clear_agree"]
    report["logits"]["llama3-8b packed"] = found
    show_logits("llama3-8b packed", found, BF16_ERROR)

    copy, matmul = copy_bandwidth(), matmul_rate()
    weights = own.ready["packed_bytes"]
    report["device"] |= {"copy_gb_per_s": copy / 1e9, "bf16_tflops": matmul / 1e12, "weight_bytes": weights}
    print(f"copy {copy / 1e9:.0f} GB/s, bf16 matmul {matmul / 1e12:.0f} TFLOP/s, weights {weights / 1e9:.2f} GB")
    times = {}
    for kind, size in [("decode", 1), ("decode", 8), ("decode", 32), ("prefill", 512), ("prefill", 2048)]:
        pairs = []
        for at in range(ROUNDS + 1):
            pair = (time_ours(own, kind, size), time_theirs(model, kind, size, at))
            if at > 0:
                pairs.append(pair)
        times[f"{kind} {size}"] = {
            "tokens_per_s": statistics.median(ours for ours, _ in pairs),
            "transformers_tokens_per_s": statistics.median(theirs for _, theirs in pairs),
            "ratio": statistics.median(ours / theirs for ours, theirs in pairs),
        }
    own.end()
    del model
    torch.cuda.empty_cache()
    for quantize in ("q8_0", "q4_0"):
        runner = Runner(args, folder, 32 * 512, quantize=quantize)
        for kind, size in [("decode", 1), ("decode", 32), ("prefill", 2048)]:
            rates = [time_ours(runner, kind, size) for _ in range(ROUNDS + 1)][1:]
            times[f"{quantize} {kind} {size}"] = {"tokens_per_s": statistics.median(rates)}
        runner.end()
    # Bytes of a token: all weights but the embedding's rows, once.
    read = weights - config.vocab_size * config.hidden_size * 2
    flops = 2 * (read / 2) * times["prefill 2048"]["tokens_per_s"]
    of = lambda name: times[name]["tokens_per_s"]
    report["times"] = times
    report["targets"] = {
        "decode 1 of the bandwidth limit, at least 0.6": of("decode 1") * read / copy,
        "decode 1 to transformers, at least 1.5": times["decode 1"]["ratio"],
        "q4_0 decode 1 to bf16, at least 1.8": of("q4_0 decode 1") / of("decode 1"),
        "decode 32 to decode 1, at least 12": of("decode 32") / of("decode 1"),
        "prefill 2048 of the matmul rate, at least 0.4": flops / matmul,
    }
    for name, figures in times.items():
        beside = f", transformers {figures['transformers_tokens_per_s']:.1f}" if "ratio" in figures else ""
        print(f"{name:20} {figures['tokens_per_s']:10.1f} tok/s{beside}")
    for name, value in report["targets"].items():
        print(f"{name:50} {value:.2f}")


def time_ours(runner, kind, size):
    if kind == "prefill":
        return size / runner.ask(op="prefill", tokens=size, chunk=512)["seconds"]
    return size * 64 / runner.ask(op="decode", batch=size, prompt=64, tokens=64)["seconds"]


def time_theirs(model, kind, size, salt):
    vocabulary, device = model.config.vocab_size, model.device
    rows, tokens = (1, size) if kind == "prefill" else (size, 64)
    ids = torch.tensor([made_up(vocabulary, tokens, 31 * (row + rows * salt)) for row in range(rows)], device=device)
    with torch.no_grad():
        torch.cuda.synchronize()
        started = time.perf_counter()
        out = model(ids, use_cache=True, logits_to_keep=1)
        if kind == "decode":
            torch.cuda.synchronize()
            started = time.perf_counter()
            for _ in range(64):
                ids = out.logits[:, -1:].argmax(-1)
                out = model(ids, past_key_values=out.past_key_values, use_cache=True)
        out.logits[:, -1].argmax(-1).tolist()
        seconds = time.perf_counter() - started
    return (size if kind == "prefill" else size * 64) / seconds


def copy_bandwidth():
    """Bytes a second that a copy within the device reads and writes."""
    source = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / quickest(lambda: target.copy_(source))


def matmul_rate():
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / quickest(lambda: a @ b)


def quickest(work):
    times = []
    for _ in range(8):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[2:])


def show_logits(name, found, limit):
    verdict = "ok" if found["ok"] else "FAILED"
    print(
        f"{name:28} relative error {found['relative_error']:.2e} (limit {limit:.0e}), greedy {found['agree']} of "
        f"{found['positions']}, of the clear ones {found['clear_agree']} of {found['clear']}: {verdict}"
    )


def main():
    parser = argparse.ArgumentParser(description="Compare the runtime on a device with transformers.")
    parser.add_argument("--runner", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the small models alone")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    args.torch_device = args.device
    logging.disable_progress_bar()
    name = "the processor" if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    print(f"device: {name}")
    torch.backends.cuda.matmul.allow_tf32 = False
    report = {"device": {"name": name}, "logits": {}}
    check_small(args, report)
    if not args.quick and args.device != "cpu":
        check_8b(args, report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    failed = [name for name, found in report["logits"].items() if not found["ok"]]
    if failed:
        sys.exit(f"these differ from transformers: {', '.join(failed)}")


if __name__ == "__main__":
    main()
