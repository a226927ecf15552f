#!/usr/bin/env python3
"""Tokens a second of a running `wgquant serve`, as its clients see them.

    wgquant serve MODEL --parallel 16 &
    scripts/serve-speed.py http://127.0.0.1:8080 1,2,4,8,16

Of so many clients at once, each asking for one answer: what 256 tokens more of each take, three times. Then prompts of 512 and 2048 tokens
with one new token, alone; of 512 with the log-probabilities of all of their tokens; tokens with five log-probabilities each; and prompts of 2048 while another client is answered."""
import json
import sys
import threading
import time
import urllib.request

URL = sys.argv[1] + "/v1/completions"
CLIENTS = [int(n) for n in sys.argv[2].split(",")]
MORE = 256


def ids(count):
    return [(i * 7919 + 3) % 2000 for i in range(count)]


def ask(prompt, tokens, **more):
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}
    start = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(URL, json.dumps(body).encode())) as answer:
        made = json.load(answer)["usage"]["completion_tokens"]
    if made != tokens:
        sys.exit(f"{made} tokens of {tokens}: the model ended its answer; speed needs one that does not")
    return time.perf_counter() - start


def together(clients, tokens, **more):
    threads = [threading.Thread(target=ask, args=(ids(64 - i % 7), tokens), kwargs=more) for i in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def rounded(values):
    return ", ".join(f"{value:.0f}" for value in values)


for clients in CLIENTS:
    together(clients, 16)
    speeds = [clients * MORE / -(together(clients, 16) - together(clients, 16 + MORE)) for _ in range(3)]
    print(f"{clients} clients: {rounded(speeds)} tokens/s together", flush=True)
for length in 512, 2048:
    print(f"prompts of {length}: {rounded(length / ask(ids(length), 1) for _ in range(4))} tokens/s", flush=True)
scored = [512 / ask(ids(512), 1, echo=True, logprobs=1) for _ in range(3)]
print(f"prompts of 512 with log-probabilities: {rounded(scored)} tokens/s", flush=True)
for clients in 1, CLIENTS[-1]:
    together(clients, 16, logprobs=5)
    speeds = [clients * MORE / (together(clients, 16 + MORE, logprobs=5) - together(clients, 16, logprobs=5)) for _ in range(3)]
    print(f"{clients} clients with five log-probabilities a token: {rounded(speeds)} tokens/s together", flush=True)
other = threading.Thread(target=ask, args=(ids(64), 400))
other.start()
time.sleep(0.1)
print(f"a prompt of 2048 beside an answer: {2048 / ask(ids(2048), 1):.0f} tokens/s")
other.join()
