"""Writes tests/fixtures/chat_templates.json: chats rendered by `transformers` itself with real models' templates.

    python3 -m venv venv && venv/bin/pip install transformers jinja2
    venv/bin/python tests/oracles/chat_templates.py

Each chat is kept as a client sends it (arguments of calls as JSON texts, `content` null beside calls). Here they are
prepared as `transformers` documents it: arguments as objects, no content as an empty text; CHOICES names the templates
that were written for something else. Where a template raises, its words are kept; where it fails, null. The clock
stands still.
"""

import copy
import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
NOW = datetime.datetime(2025, 3, 7, 16, 5, 9)
TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>"}

# The templates that want past arguments as text, or a missing content as null.
CHOICES = {"deepseek-r1-distill": {"arguments": "text", "content": None}}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def tool(name, description, properties, required):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool(
        "get_weather",
        "The weather at a place, e.g. \"Zürich\" <now> & later.",
        {
            "city": {"type": "string", "description": "A city's name"},
            "days": {"type": "integer", "description": "How many days"},
            "units": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        ["city"],
    ),
    tool(
        "search",
        "Looks something up.",
        {
            "query": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "range": {"type": "object", "properties": {"from": {"type": "number"}, "to": {"type": "number"}}},
            "exact": {"type": "boolean", "default": False},
        },
        ["query"],
    ),
]


def call(id, name, arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def result(id, text):
    return {"role": "tool", "tool_call_id": id, "content": text}


WEATHER = call("a1B2c3D4e", "get_weather", {"city": "Zürich's \"old\" town", "days": 3})
SEARCH = call("f5G6h7I8j", "search", {"query": "<a & b>\nc", "tags": ["x", "y"], "range": {"from": -1.5, "to": 1e20}, "exact": True})
EMPTY = call("k9L0m1N2o", "get_weather", {})

CHATS = [
    {"name": "plain", "messages": [system("Be brief."), user(" Hi <b>&</b> 'you' \"there\" — ü\n")]},
    {"name": "turns", "messages": [user("One?"), assistant("Two.\n"), user("Three?")]},
    {"name": "ended", "messages": [system("S"), user("One?"), assistant("Two.")], "add_generation_prompt": False},
    {"name": "tools", "messages": [system("Be brief."), user("Weather?")], "tools": TOOLS},
    {"name": "one call", "messages": [user("Weather?"), assistant(None, tool_calls=[WEATHER]), result("a1B2c3D4e", "{\"sky\": \"clear\"}")], "tools": TOOLS},
    {
        "name": "two calls",
        "messages": [
            user("Both?"),
            assistant(None, tool_calls=[SEARCH, WEATHER]),
            result("f5G6h7I8j", "nothing"),
            result("a1B2c3D4e", "sun"),
            assistant("Sun."),
            user("And now?"),
        ],
        "tools": TOOLS,
    },
    {"name": "call with words", "messages": [user("Weather?"), assistant("Let me see.", tool_calls=[EMPTY]), result("k9L0m1N2o", "rain")], "tools": TOOLS},
    {
        "name": "reasoning",
        "messages": [
            user("Weather?"),
            assistant(None, reasoning_content="They want weather.", tool_calls=[WEATHER]),
            result("a1B2c3D4e", "sun"),
        ],
        "tools": TOOLS,
    },
    {"name": "thinking on", "messages": [user("1+1?"), assistant("2", reasoning_content="Easy."), user("2+2?")], "variables": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}},
    {"name": "thinking off", "messages": [user("1+1?")], "variables": {"enable_thinking": False, "reasoning_effort": "low"}},
]


def prepared(messages, choice):
    messages = copy.deepcopy(messages)
    for message in messages:
        for tool_call in message.get("tool_calls", []):
            if choice.get("arguments") != "text":
                tool_call["function"]["arguments"] = json.loads(tool_call["function"]["arguments"])
        if message["content"] is None:
            message["content"] = choice.get("content", "")
    return messages


def render(name, template, chat):
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            [prepared(chat["messages"], CHOICES.get(name, {}))],
            tools=chat.get("tools"),
            chat_template=template,
            add_generation_prompt=chat.get("add_generation_prompt", True),
            **TOKENS,
            **chat.get("variables", {}),
        )
        return rendered[0]
    except Exception as error:
        if type(error) is jinja2.exceptions.TemplateError:
            return {"raised": str(error)}
        print(f"{name}, {chat['name']}: {type(error).__name__}: {error}")
        return None


def main():
    chat_template_utils.datetime = Clock
    templates = {path.stem: path.read_text() for path in sorted((FIXTURES / "templates").glob("*.jinja"))}
    renderings = {
        name: {chat["name"]: render(name, template, chat) for chat in CHATS} for name, template in templates.items()
    }
    golden = {"now": NOW.isoformat(), "tokens": TOKENS, "chats": CHATS, "renderings": renderings}
    target = FIXTURES / "chat_templates.json"
    target.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


main()
