#!/usr/bin/env python3
"""Checks a running coordinator with OpenAI's own Python client.

    python3 -m pip install openai
    python3 tests/http/openai_client.py http://127.0.0.1:8100

Prints one line a check; ends with status 1 at the first that fails.
"""

import sys

import openai


def check(name, condition, seen=None):
    if not condition:
        sys.exit(f"FAILED {name}: {seen!r}")
    print(f"ok {name}")


def main(base_url):
    client = openai.OpenAI(base_url=f"{base_url.rstrip('/')}/v1", api_key="fl_test", max_retries=0, timeout=120)

    models = [model.id for model in client.models.list()]
    check("models.list", models, models)
    model = models[0]
    check("models.retrieve", client.models.retrieve(model).id == model)

    messages = [
        {"role": "system", "content": "You answer in one sentence."},
        {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]},
    ]
    greedy = {"model": model, "temperature": 0, "seed": 7}

    whole = client.chat.completions.create(messages=messages, max_tokens=16, **greedy)
    text = whole.choices[0].message.content
    check("chat", whole.object == "chat.completion" and text and whole.choices[0].message.role == "assistant", whole)
    check("chat usage", whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage)
    check("chat finish_reason", whole.choices[0].finish_reason in ("stop", "length"), whole)
    check("chat cost", float(whole.usage.cost_far) >= 0, whole.usage)

    raw = client.chat.completions.with_raw_response.create(messages=messages, max_tokens=1, **greedy)
    check("session header", len(raw.headers["x-far-session"]) == 32, dict(raw.headers))

    chunks = list(
        client.chat.completions.create(
            messages=messages, max_completion_tokens=16, stream=True, stream_options={"include_usage": True}, **greedy
        )
    )
    check("stream begins with the role", chunks[0].choices[0].delta.role == "assistant", chunks[0])
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    check("streamed text is the whole text", streamed == text, (streamed, text))
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    check("one finish_reason", len(reasons) == 1, reasons)
    check("usage comes last", chunks[-1].usage == whole.usage and not chunks[-1].choices, chunks[-1])

    with client.chat.completions.stream(messages=messages, max_tokens=4, **greedy) as stream:
        events = [event.type for event in stream]
        snapshot = stream.current_completion_snapshot
    check("stream helper", "content.delta" in events and text.startswith(snapshot.choices[0].message.content), events)

    scored = client.chat.completions.create(messages=messages, max_tokens=3, logprobs=True, top_logprobs=2, **greedy)
    content = scored.choices[0].logprobs.content
    check("logprobs", content and all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in content), content)

    several = client.chat.completions.create(messages=messages, max_tokens=4, n=3, model=model, seed=1)
    check("n choices", [c.index for c in several.choices] == [0, 1, 2], several)

    stopped = client.chat.completions.create(messages=messages, max_tokens=16, stop=[text[:3]], **greedy)
    check("stop", text[:3] not in stopped.choices[0].message.content, stopped)
    check("stop is the reason", stopped.choices[0].finish_reason == "stop", stopped)

    completion = client.completions.create(prompt="Once upon a time", max_tokens=8, **greedy)
    check("completion", completion.object == "text_completion" and completion.choices[0].text, completion)
    parts = client.completions.create(prompt="Once upon a time", max_tokens=8, stream=True, **greedy)
    check("completion stream", "".join(c.choices[0].text for c in parts if c.choices) == completion.choices[0].text)
    batch = client.completions.create(prompt=["One two", "Three four"], max_tokens=2, **greedy)
    check("completion of two prompts", [c.index for c in batch.choices] == [0, 1], batch)
    ids = client.completions.create(prompt=[1, 2, 3], max_tokens=2, **greedy)
    check("completion of token ids", ids.usage.prompt_tokens == 3, ids)
    scored = client.completions.create(prompt="Once", max_tokens=3, logprobs=2, **greedy)
    logprobs = scored.choices[0].logprobs
    check("completion logprobs", len(logprobs.tokens) == len(logprobs.text_offset) == len(logprobs.token_logprobs), logprobs)

    def refused(name, error, param, **wrong):
        try:
            client.chat.completions.create(**{"model": model, "messages": messages, "max_tokens": 1, **wrong})
        except error as refusal:
            check(name, refusal.param == param and refusal.message, refusal)
        else:
            sys.exit(f"FAILED {name}: not refused")

    refused("unknown model", openai.NotFoundError, "model", model="no-such-model")
    refused("temperature out of range", openai.UnprocessableEntityError, "temperature", temperature=3)
    refused("n out of range", openai.UnprocessableEntityError, "n", n=9)
    refused("wrong type", openai.BadRequestError, "max_tokens", max_tokens="many")
    refused("no messages", openai.UnprocessableEntityError, "messages", messages=[])
    refused("tools", openai.BadRequestError, "tools", tools=[{"type": "function", "function": {"name": "f"}}])
    long = [{"role": "user", "content": "word " * 100_000}]
    try:
        client.chat.completions.create(model=model, messages=long, max_tokens=1)
    except openai.APIStatusError as refusal:
        check("prompt over the context", refusal.status_code == 413 and refusal.code == "context_length_exceeded", refusal)
    else:
        sys.exit("FAILED prompt over the context: not refused")

    stream = client.chat.completions.create(messages=messages, max_tokens=64, stream=True, **greedy)
    next(iter(stream))
    stream.close()
    check("health after a hang-up", client.models.list().data)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
