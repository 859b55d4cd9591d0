#!/usr/bin/env python3
"""Takes llama-server's command line and starts Impetus with what it says.

The model is the file STRANGERS_MODEL, under the name of --alias and under those that the tests call it by. The program
is STRANGERS_BINARY, its plugins are in STRANGERS_PLUGINS, and what it needs is written below STRANGERS_RUN. Nothing is
guessed ahead, as there without a flag.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

# Names of models in the tests' requests.
NAMES = ["tinyllama-2", "gpt-3.5-turbo-instruct", "gpt-3.5-turbo", "davinci-002", "codellama70b"]

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--port", type=int)
parser.add_argument("--host")
parser.add_argument("--alias")
parser.add_argument("--ctx-size", type=int)
parser.add_argument("--batch-size", type=int)
parser.add_argument("--parallel", type=int)
parser.add_argument("--threads", type=int)
parser.add_argument("--api-key")
said, _ = parser.parse_known_args()

folder = Path(tempfile.mkdtemp(dir=os.environ["STRANGERS_RUN"]))
(folder / "models").mkdir()
for name in {said.alias or "tinyllama-2", *NAMES}:
    os.link(os.environ["STRANGERS_MODEL"], folder / "models" / f"{name}.gguf")

server = {"host": said.host, "port": said.port, "api_keys": [said.api_key] if said.api_key else []}
options = {"context_tokens": said.ctx_size, "batch_tokens": said.batch_size, "threads": said.threads}
engine = {"max_sequences": said.parallel, "speculate": False}


def table(name, values):
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join([f"[{name}]", *lines, ""])


config = folder / "plugins.toml"
config.write_text(
    table("server", server)
    + table("models", {"folders": ["models"]})
    + table("engine", engine)
    + table("plugins", {"folder": os.environ["STRANGERS_PLUGINS"]})
    + table("plugin.gguf.options", options)
)
sys.stdout.flush()
os.execv(os.environ["STRANGERS_BINARY"], ["impetus", "serve", "--config", str(config)])
