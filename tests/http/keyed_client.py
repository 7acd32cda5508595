#!/usr/bin/env python3
"""Checks with OpenAI's own Python client that a coordinator asks for keys and charges them.

    python3 -m pip install openai
    python3 tests/http/keyed_client.py http://127.0.0.1:8100 KEY

Prints one line a check; ends with status 1 at the first that fails. KEY's account has at most 0.1 FAR.
"""

import sys

import openai


def check(name, condition, seen=None):
    if not condition:
        sys.exit(f"FAILED {name}: {seen!r}")
    print(f"ok {name}")


def main(base_url, key):
    def client(api_key):
        return openai.OpenAI(base_url=f"{base_url.rstrip('/')}/v1", api_key=api_key, max_retries=0, timeout=120)

    def refused(name, error, api_key, call):
        try:
            call(client(api_key))
        except error as refusal:
            check(name, refusal.message, refusal)
            return refusal
        sys.exit(f"FAILED {name}: not refused")

    model = client(key).models.list().data[0].id
    ask = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}

    def create(client):
        return client.chat.completions.create(**ask)

    for name, wrong in [("a key of no account", "fl_" + "0" * 64), ("no key of ours", "sk-12345")]:
        refusal = refused(name, openai.AuthenticationError, wrong, create)
        check(f"{name}: code", refusal.status_code == 401 and refusal.code == "invalid_api_key", refusal)
    refused("models without a key", openai.AuthenticationError, "fl_test", lambda client: client.models.list())

    answer = create(client(key))
    check("an answer", answer.choices[0].message.content and float(answer.usage.cost_far) > 0, answer)
    chunks = list(client(key).chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask))
    check("a stream", chunks[-1].usage.cost_far == answer.usage.cost_far, chunks[-1])

    def too_much(client):
        return client.chat.completions.create(**{**ask, "max_tokens": 2000})

    refusal = refused("more than the balance", openai.APIStatusError, key, too_much)
    check("status 402", refusal.status_code == 402 and refusal.code == "insufficient_balance", refusal)
    check("balance and need are named", "FAR free" in refusal.message and "0.2 FAR" in refusal.message, refusal.message)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
