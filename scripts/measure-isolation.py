#!/usr/bin/env python3
"""What it costs that plugins run in processes of their own, and how soon a server is back: measured, not asserted.

    scripts/measure-isolation.py --plugin target/release/libimpetus_plugin_gguf.so --model models/X.gguf

Starts servers of its own on free ports of this machine, with `isolation = "process"` and `"none"` in turn, and prints
medians. Needs nothing but Python. Run it on an idle machine; with --rounds 5 it takes about two minutes.
"""

import argparse
import http.client
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time

MIB = 1 << 20


class Server:
    """`impetus serve` in a folder of its own."""

    def __init__(self, args, isolation, plugins=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="impetus-measure-"))
        (self.folder / "plugins").mkdir()
        (self.folder / "models").mkdir()
        model = pathlib.Path(args.model).resolve()
        (self.folder / "models" / model.name).symlink_to(model)
        if plugins:
            shutil.copy(args.plugin, self.folder / "plugins")
        (self.folder / "plugins.toml").write_text(
            f'[server]\nport = 0\n[plugins]\nfolder = "plugins"\nisolation = "{isolation}"\nmax_crashes = 1000\n'
        )
        self.model = model.name if model.is_dir() else model.stem
        environment = dict(os.environ, XDG_CACHE_HOME=str(self.folder / "cache"))
        # Whatever a first start finds out of plugins is remembered; what is measured is every later one.
        for _ in range(2):
            started = time.perf_counter()
            self.process = subprocess.Popen(
                [os.path.abspath(args.program), "serve"],
                cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
            address = self.process.stdout.readline().split()[-1]
            self.port = int(address.rsplit(":", 1)[1])
            while self.get("/readyz")[0] != 200:
                pass
            self.ready_seconds = time.perf_counter() - started
            if _ == 0:
                self.stop()

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def close(self):
        self.stop()
        shutil.rmtree(self.folder)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")

    def ask(self, prompt, tokens, stream=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        body = {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        connection.request(
            "POST", "/v1/completions", json.dumps(body | {"stream": stream}), {"content-type": "application/json"}
        )
        return connection.getresponse()

    def worker(self):
        return self.get("/api/ps")[1]["processes"][0]["pid"]


def status_kib(pid, key):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def resident_without(pid, name):
    """Bytes of resident memory that are not the model's own file."""
    total, counts = 0, True
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if not line[0].isupper():
            counts = not line.endswith(name)
        elif line.startswith("Rss:") and counts:
            total += int(line.split()[1]) * 1024
    return total


def throughput(server, clients, tokens, turn):
    """Tokens of all answers in a second."""
    total = [0] * clients

    def client(number):
        answer = server.ask(f"Round {turn}, client {number}: once upon a time", tokens)
        total[number] = json.loads(answer.read())["usage"]["completion_tokens"]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return sum(total) / (time.perf_counter() - started)


def streamed_seconds_per_token(server, tokens, turn):
    """From the first piece of a streamed answer to its last, for each token."""
    answer = server.ask(f"Stream {turn}: once upon a time", tokens, stream=True)
    times = []
    while line := answer.readline():
        if line.startswith(b"data: {"):
            times.append(time.perf_counter())
    return (times[-1] - times[0]) / (tokens - 1)


def pairs(args, worker, inside, measure):
    """Both in turn, the order changing, and the median of each and of their ratio."""
    found = []
    for turn in range(args.rounds):
        order = [worker, inside] if turn % 2 == 0 else [inside, worker]
        values = {id(server): measure(server, turn) for server in order}
        found.append((values[id(worker)], values[id(inside)]))
    ours, theirs = (statistics.median(column) for column in zip(*found))
    return ours, theirs, statistics.median(a / b for a, b in found), [round(a / b, 3) for a, b in found]


def compare(args):
    worker, inside = Server(args, "process"), Server(args, "none")
    try:
        for server in (worker, inside):
            server.ask("warm up", 8).read()
        for clients in (1, 8):
            ours, theirs, ratio, all_of_them = pairs(
                args, worker, inside, lambda server, turn: throughput(server, clients, args.tokens, turn)
            )
            print(f"{clients} clients: worker {ours:.1f}, in process {theirs:.1f} tokens/s; ratio {ratio:.3f} {all_of_them}")
        ours, theirs, _, _ = pairs(
            args, worker, inside, lambda server, turn: streamed_seconds_per_token(server, args.tokens, turn) * 1e6
        )
        print(f"a token of one stream: worker {ours:.1f}, in process {theirs:.1f} us; added {ours - theirs:.1f} us")
        pid = worker.worker()
        name = pathlib.Path(args.model).resolve().name
        print(f"worker at rest: {status_kib(pid, 'VmRSS') / 1024:.1f} MiB resident, "
              f"{resident_without(pid, name) / MIB:.1f} MiB without the model's file")
    finally:
        worker.close()
        inside.close()


def alone(args):
    ready, resident = [], []
    for _ in range(args.rounds):
        server = Server(args, "process")
        ready.append(server.ready_seconds * 1000)
        resident.append(status_kib(server.process.pid, "VmRSS") / 1024)
        server.close()
    print(f"host without a model: {statistics.median(resident):.1f} MiB resident, "
          f"ready in {statistics.median(ready):.0f} ms")


def dropped_in(args):
    found = []
    for _ in range(args.rounds):
        server = Server(args, "process", plugins=False)
        draft = server.folder / "draft"
        shutil.copy(args.plugin, draft)
        started = time.perf_counter()
        draft.rename(server.folder / "plugins" / pathlib.Path(args.plugin).name)
        while not server.get("/api/formats")[1]["formats"]:
            time.sleep(0.002)
        found.append(time.perf_counter() - started)
        server.close()
    print(f"from drop to advertised: {statistics.median(found):.2f} s, at most {max(found):.2f} s")


def killed(args):
    server = Server(args, "process")
    errors, answers = [], []
    for turn in range(args.rounds * 2):
        stream = server.ask(f"Kill {turn}: once upon a time", 400, stream=True)
        stream.readline()
        pid = server.worker()
        started = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while line := stream.readline():
            if b"engine_crashed" in line:
                errors.append((time.perf_counter() - started) * 1000)
                break
        while True:
            answer = server.ask(f"After kill {turn}", 1)
            answer.read()
            if answer.status == 200:
                answers.append((time.perf_counter() - started) * 1000)
                break
    server.close()
    print(f"from kill -9 to the client's error: {statistics.median(errors):.1f} ms, at most {max(errors):.1f} ms "
          f"({len(errors)} kills)")
    print(f"from kill -9 to the next answer: {statistics.median(answers):.0f} ms, at most {max(answers):.0f} ms")


PARTS = {"compare": compare, "alone": alone, "drop": dropped_in, "kill": killed}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; all without")
    parser.add_argument("--program", default="target/release/impetus")
    parser.add_argument("--plugin", required=True, help="the library of a plugin")
    parser.add_argument("--model", required=True, help="a model that it runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}")
    for name in args.parts or PARTS:
        PARTS[name](args)


if __name__ == "__main__":
    main()
