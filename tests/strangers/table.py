"""Compares what became of llama.cpp's tests with what docs/compatibility.md says of each; with --write, writes it.

    table.py [--write] RESULTS REASONS DOCUMENT
"""

import json
import sys
import tomllib
from collections import Counter
from pathlib import Path

HEAD = """# llama.cpp's own tests of its server, run against Impetus

`scripts/strangers.sh` fetches llama.cpp's server tests (`tools/server/tests/unit` of llama.cpp b11434), runs them against
Impetus with SmolLM2-135M-Instruct, and fails when a row here is not what happened; `scripts/strangers.sh --write` writes
this file. The reasons are in `tests/strangers/reasons.toml`, what is adapted is told in `tests/strangers/conftest.py`:
how the server is started, which model answers, and so how many tokens a text has and what is said.

"""

MEANINGS = {
    "passes": "as it stands",
    "differs": "on purpose: the test is run and fails, and why that is right stands beside it",
    "not applicable": "the test asks for what Impetus does not offer, and is not run",
}


def reason(reasons, name):
    return reasons.get(name) or reasons.get(name.split("[")[0])


def judge(results, reasons):
    """Rows of (test, verdict, why), and what is wrong."""
    rows, wrong = [], []
    for name, result in results.items():
        why = reason(reasons, name)
        verdict = why["verdict"] if why else "passes"
        skipped = result["outcome"] == "skipped"
        if verdict == "passes" and result["outcome"] == "failed":
            wrong.append(f"{name} fails, and nothing says why it may: {result['message']}")
        if verdict == "passes" and skipped:
            wrong.append(f"{name} is skipped, and nothing says why")
        if verdict == "differs" and result["outcome"] != "failed":
            wrong.append(f"{name} is said to differ, but is {result['outcome']}")
        elif verdict == "differs" and why["fails"] not in result["message"]:
            wrong.append(f"{name} is said to fail with {why['fails']!r}, but fails with {result['message']!r}")
        if verdict == "not applicable" and not skipped:
            wrong.append(f"{name} is said to be not applicable, but was run")
        rows.append((name, verdict, why["why"] if why else ""))
    for name in reasons:
        if not any(name in (test, test.split("[")[0]) for test in results):
            wrong.append(f"a reason is given for {name}, which is no test")
    return rows, wrong


def document(rows):
    counts = Counter(verdict for _, verdict, _ in rows)
    text = HEAD
    for verdict, meaning in MEANINGS.items():
        text += f"* **{verdict}** ({counts[verdict]}): {meaning}\n"
    subject = None
    for name, verdict, why in rows:
        file, test = name.split("::", 1)
        if file != subject:
            subject = file
            text += f"\n## {file}\n\n| test | verdict | why |\n|---|---|---|\n"
        test = test.replace("\\n", " ").replace("|", "\\|").replace("`", "'")
        text += f"| `{test}` | {verdict} | {why} |\n"
    return text


def main():
    write = "--write" in sys.argv
    results, reasons, path = (Path(argument) for argument in sys.argv[1:] if argument != "--write")
    rows, wrong = judge(json.loads(results.read_text()), tomllib.loads(reasons.read_text())["tests"])
    text = document(rows)
    if wrong:
        sys.exit("\n".join(["error: it is not as tests/strangers/reasons.toml says:", *wrong]))
    if write:
        path.write_text(text)
    elif path.read_text() != text:
        sys.exit(f"error: {path} is not what happened: run scripts/strangers.sh --write and read the difference")
    print(f"{len(rows)} tests: " + ", ".join(f"{count} {verdict}" for verdict, count in Counter(row[1] for row in rows).items()))


main()
