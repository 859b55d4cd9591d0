#!/usr/bin/env python3
"""How long running streams are held up while a long prompt arrives: measured, not asserted.

    scripts/measure-stall.py --url http://127.0.0.1:8484 --model X [--against http://127.0.0.1:8080]

Starts the streams of --clients clients, lets them run, then sends one prompt of about --prompt-tokens tokens, and prints
the time from one piece of a stream to the next, before that prompt came and while it was computed (until its first token),
and that prompt's own time to its first token. With --against the same of another server of the OpenAI API, in turn, round
by round, so that both see the same machine. Needs nothing but Python and servers that run; use it on an idle machine.
A server's context must have room for the prompt and the streams: of `impetus serve` that is `context_tokens` of the plugin.
"""

import argparse
import http.client
import json
import os
import ssl
import statistics
import threading
import time
import urllib.parse

WORDS = (
    "the of and to in is that for was on are with they be at one have this from by hot but some what there we can out "
    "other were all your when up use word how said an each she which do their time if will way about many then them"
).split()


def text(seed, words):
    """Words that are the same in every run and, with another seed, share no beginning."""
    state, found = seed * 2654435761 + 1, []
    for _ in range(words):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        found.append(WORDS[(state >> 33) % len(WORDS)])
    return " ".join(found)


class Server:
    """A server of the OpenAI API."""

    def __init__(self, url, model, key):
        self.url, self.model, self.key = url, model, key
        self.words = None

    def connect(self):
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                parts.hostname, parts.port or 443, timeout=600, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=600)

    def ask(self, prompt, tokens, stream):
        connection = self.connect()
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        body = {
            "model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
            "stream": stream,
        }
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{self.url} answers {answer.status}: {answer.read().decode(errors='replace')}")
        return connection, answer

    def find_words(self, tokens):
        """How many of these words are so many tokens here."""
        connection, answer = self.ask(text(0, 200), 1, False)
        told = json.loads(answer.read())["usage"]["prompt_tokens"]
        connection.close()
        self.words = max(1, round(tokens * 200 / told))


class Stream(threading.Thread):
    """One client: when each piece of its answer came."""

    def __init__(self, server, prompt, tokens):
        super().__init__(daemon=True)
        self.server, self.prompt, self.tokens = server, prompt, tokens
        self.times, self.over, self.failure = [], False, None

    def run(self):
        try:
            connection, answer = self.server.ask(self.prompt, self.tokens, True)
            while not self.over and (line := answer.readline()):
                if line.startswith(b'data: {"error"'):
                    self.failure = line.decode(errors="replace")
                    break
                if line.startswith(b"data: {"):
                    self.times.append(time.perf_counter())
            connection.close()
        except (OSError, SystemExit) as error:
            self.failure = str(error)


def until(condition, seconds, what):
    end = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > end:
            raise SystemExit(f"{what} did not happen within {seconds} s")
        time.sleep(0.002)


def gaps(streams, begin, end):
    """Times from piece to piece that end within these two moments. A gap that the long prompt began to hold up counts."""
    found = []
    for stream in streams:
        times = list(stream.times)
        found += [b - a for a, b in zip(times, times[1:]) if begin <= b <= end]
    return found


def one_round(server, args, turn):
    streams = [
        Stream(server, f"{turn} {number} {text(1000 * turn + number + 1, 24)}", args.tokens)
        for number in range(args.clients)
    ]
    for stream in streams:
        stream.start()

    def failed():
        return next((stream.failure for stream in streams if stream.failure), None)

    until(lambda: failed() or all(len(stream.times) >= args.settle for stream in streams), 300, "the streams' beginning")
    begin = time.perf_counter()
    time.sleep(args.before)
    long = Stream(server, f"{turn} {text(77_000 + turn, server.words)}", 2)
    sent = time.perf_counter()
    long.start()
    until(lambda: failed() or long.failure or long.times, 600, "the long prompt's first token")
    if reason := failed() or long.failure:
        raise SystemExit(f"{server.url}: {reason}")
    first = long.times[0]
    # The step that computed its last part ends the streams' gap too.
    time.sleep(0.2)
    still = sum(stream.times[-1] > first for stream in streams)
    result = gaps(streams, begin, sent), gaps(streams, sent, first + 0.2), first - sent
    for stream in streams:
        stream.over = True
    for stream in [*streams, long]:
        stream.join(60)
    if still < len(streams):
        raise SystemExit(f"{len(streams) - still} streams had ended before the long prompt was done: raise --tokens")
    return result


def share(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000


def told(name, values):
    if not values:
        return f"  {name}: no piece came"
    return (f"  {name}: p50 {share(values, 0.5):.1f} ms, p99 {share(values, 0.99):.1f} ms, "
            f"longest {max(values) * 1000:.1f} ms ({len(values)} gaps)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="the server")
    parser.add_argument("--model", required=True, help="its model's id")
    parser.add_argument("--against", help="another server, measured in turn")
    parser.add_argument("--against-model", help="its model's id; without it, the same")
    parser.add_argument("--key", default=os.environ.get("IMPETUS_API_KEY"), help="an API key; or IMPETUS_API_KEY")
    parser.add_argument("--clients", type=int, default=4, help="streams that run")
    parser.add_argument("--prompt-tokens", type=int, default=4000)
    parser.add_argument("--tokens", type=int, default=1500, help="of each stream at most")
    parser.add_argument("--settle", type=int, default=8, help="pieces of each stream before it is measured")
    parser.add_argument("--before", type=float, default=3.0, help="seconds measured before the prompt is sent")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    servers = [Server(args.url, args.model, args.key)]
    if args.against:
        servers.append(Server(args.against, args.against_model or args.model, args.key))
    found = {id(server): [] for server in servers}
    for server in servers:
        server.find_words(args.prompt_tokens)
    for turn in range(args.rounds):
        for server in servers if turn % 2 == 0 else servers[::-1]:
            found[id(server)].append(one_round(server, args, turn))
    for server in servers:
        rounds = found[id(server)]
        before = [gap for quiet, _, _ in rounds for gap in quiet]
        during = [gap for _, held, _ in rounds for gap in held]
        firsts = [first for _, _, first in rounds]
        print(f"{server.url}: {args.clients} streams, a prompt of about {args.prompt_tokens} tokens, {args.rounds} rounds")
        print(told("before", before))
        print(told("while it is computed", during))
        print(f"  its first token: median {statistics.median(firsts):.2f} s "
              f"({', '.join(f'{first:.2f}' for first in firsts)})")


if __name__ == "__main__":
    main()
