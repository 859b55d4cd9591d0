"""Stands in the place of llama.cpp's own conftest.py: which model answers, what its tokens are counted as, which tests are
not run, and what became of each.

What is adapted, and nothing else:
* every preset of a server with a language model answers with the same local file, under the preset's name;
* requests that name no model name that one;
* token counts are those of this model, and sentences of stories260K may be any text.
"""

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest

# utils.py imports it for downloads that are not made here.
sys.modules.setdefault("wget", type(sys)("wget"))

import utils

HERE = Path(__file__).parent
REASONS = tomllib.loads((HERE / "reasons.toml").read_text())
RESULTS = Path(os.environ["STRANGERS_RESULTS"])

# What stories260K says. Where a grammar decides the text, the test's own expression stands.
STORIES = {
    "But she couldn't",
    "(Suddenly)+|\\{ \" Sarax.",
    "(Suddenly)+",
    "^ blue",
    "(Aside|she|felter|alonger)+",
    "Whillicter",
    "(going|bed)+",
    "(princesses|everyone|kids|Anna|forest)+",
}

# Tokens of stories260K and of the model that answers, as llama-server counts them.
COUNTS = {int(theirs): ours for theirs, ours in REASONS["tokens"].items()}

own_match = utils.match_regex
utils.match_regex = lambda regex, text: bool(text) if regex in STORIES else own_match(regex, text)


def with_model(send):
    def request(self, method, path, data=None, *rest, **named):
        if method == "POST" and isinstance(data, dict) and data.get("model") is None:
            data = {**data, "model": self.model_alias or "tinyllama-2"}
        return send(self, method, path, data, *rest, **named)

    return request


for name in ("make_request", "make_stream_request"):
    setattr(utils.ServerProcess, name, with_model(getattr(utils.ServerProcess, name)))


def name_of(item):
    return item.nodeid.removeprefix("unit/")


def reason(name):
    """The reason that stands for this test or for all cases of its function."""
    reasons = REASONS["tests"]
    return reasons.get(name) or reasons.get(name.split("[")[0])


def pytest_collection_modifyitems(items):
    for item in items:
        if callspec := getattr(item, "callspec", None):
            if "n_prompt" in callspec.params:
                callspec.params["n_prompt"] = COUNTS.get(callspec.params["n_prompt"], callspec.params["n_prompt"])
        why = reason(name_of(item))
        if why and why["verdict"] == "not applicable":
            item.add_marker(pytest.mark.skip(reason=why["why"]))


results = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    name = name_of(item)
    if report.when == "call" or report.outcome != "passed":
        last = str(report.longrepr).strip().splitlines()[-1:] if report.failed else []
        results[name] = {"outcome": report.outcome, "message": "".join(last)}


def pytest_sessionfinish():
    RESULTS.write_text(json.dumps(results, indent=1))


@pytest.fixture(autouse=True)
def stop_server_after_each_test():
    yield
    for server in set(utils.server_instances):
        server.stop()
