"""The official openai library as a client: streams, tools, JSON schema, embeddings, responses, as its users call them.

    openai_client.py URL MODEL EMBEDDING_MODEL

Ends with 0 when everything is as the library promises its users, else with what was not.
"""

import json
import sys
from typing import Annotated, Literal

import openai
from openai import OpenAI
from pydantic import BaseModel, Field

url, model, embedding_model = sys.argv[1:]
client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)
QUESTION = [{"role": "user", "content": "Name the capital of France."}]


def whole_and_streamed_chats_say_the_same():
    same = {"model": model, "messages": QUESTION, "max_tokens": 12, "temperature": 0, "seed": 1}
    whole = client.chat.completions.create(**same)
    assert whole.choices[0].message.content and whole.usage.completion_tokens > 0, whole
    pieces, usage = [], None
    for chunk in client.chat.completions.create(**same, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content, (pieces, whole)
    assert usage.total_tokens == whole.usage.total_tokens, usage
    with client.chat.completions.stream(model=model, messages=QUESTION, max_tokens=12, temperature=0, seed=1) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert text == stream.get_final_completion().choices[0].message.content == whole.choices[0].message.content


def log_probabilities_are_told():
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in tokens), tokens


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def a_required_tool_is_called_whole_and_streamed():
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    same = {"model": model, "messages": asked, "tools": [TOOL], "tool_choice": "required", "max_tokens": 120, "seed": 3}
    whole = client.chat.completions.create(**same)
    call = whole.choices[0].message.tool_calls[0]
    assert whole.choices[0].finish_reason == "tool_calls" and call.function.name == "get_weather", whole
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome"), call
    with client.chat.completions.stream(**same) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert streamed.function.name == "get_weather", streamed
    assert json.loads(streamed.function.arguments)["city"] in ("Paris", "Rome"), streamed
    told = [*asked, whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    after = client.chat.completions.create(model=model, messages=told, max_tokens=8, tools=[TOOL], tool_choice="none")
    assert after.choices[0].message.tool_calls is None, after


class City(BaseModel):
    """Every field is bounded: within `max_tokens` an answer is complete, whatever the model says."""

    name: Annotated[str, Field(max_length=16)]
    inhabitants: Annotated[int, Field(ge=0, le=40_000_000)]
    is_capital: bool
    continent: Literal["Africa", "America", "Asia", "Europe", "Oceania"]


def a_model_of_pydantic_comes_back():
    same = {"model": model, "messages": QUESTION, "response_format": City, "max_tokens": 200, "seed": 1}
    answer = client.chat.completions.parse(**same)
    assert answer.choices[0].finish_reason == "stop", answer
    assert isinstance(answer.choices[0].message.parsed, City), answer
    with client.chat.completions.stream(**same) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "stop" and isinstance(streamed.message.parsed, City), streamed


def old_completions_go_on():
    answer = client.completions.create(model=model, prompt=["One, two,", "Red, green,"], max_tokens=4, temperature=0)
    assert [choice.index for choice in answer.choices] == [0, 1], answer
    scored = client.completions.create(
        model=model, prompt="The sky is blue", max_tokens=1, echo=True, logprobs=1, temperature=0
    ).choices[0]
    assert scored.text.startswith("The sky is blue") and scored.logprobs.token_logprobs[0] is None, scored
    assert all(value <= 0 for value in scored.logprobs.token_logprobs[1:]), scored
    assert len(scored.logprobs.tokens) == len(scored.logprobs.text_offset) == len(scored.logprobs.top_logprobs)


def texts_become_vectors():
    texts = ["A cat sits on a mat.", "A kitten rests on a rug.", "Stocks fell sharply today."]
    answer = client.embeddings.create(model=embedding_model, input=texts)
    vectors = [one.embedding for one in answer.data]
    near, far = (sum(a * b for a, b in zip(vectors[0], other)) for other in vectors[1:])
    assert near > far and answer.usage.prompt_tokens > 0, (near, far)
    floats = client.embeddings.create(model=embedding_model, input=texts[0], encoding_format="float")
    assert max(abs(a - b) for a, b in zip(floats.data[0].embedding, vectors[0])) < 1e-5


def responses_are_created_streamed_and_gone_on_from():
    first = client.responses.create(model=model, input="Say hello.", max_output_tokens=10, temperature=0)
    assert first.output_text and first.status in ("completed", "incomplete"), first
    assert client.responses.retrieve(first.id).output_text == first.output_text
    seen = []
    for event in client.responses.create(
        model=model, input="And again.", previous_response_id=first.id, max_output_tokens=10, temperature=0, stream=True
    ):
        seen.append(event.type)
    assert seen[0] == "response.created" and seen[-1] in ("response.completed", "response.incomplete"), seen
    assert "response.output_text.delta" in seen, seen
    parsed = client.responses.parse(model=model, input="Describe Rome.", text_format=City, max_output_tokens=200)
    assert parsed.status == "completed" and isinstance(parsed.output_parsed, City), parsed
    client.responses.delete(first.id)


def refusals_are_the_library_s_own_errors():
    def refused(error, **fields):
        try:
            client.chat.completions.create(**{"model": model, "messages": QUESTION, **fields})
        except error as found:
            return found
        raise AssertionError(f"{fields} were taken")

    assert refused(openai.NotFoundError, model="no-such-model").code == "model_not_found"
    assert refused(openai.BadRequestError, temperature=-1).param == "temperature"
    assert refused(openai.BadRequestError, extra_body={"no_such_field": 1}).param == "no_such_field"


def models_are_listed():
    ids = [one.id for one in client.models.list()]
    assert model in ids and embedding_model in ids, ids
    assert client.models.retrieve(model).id == model


for name, check in list(globals().items()):
    if callable(check) and getattr(check, "__module__", None) == "__main__" and name.islower():
        check()
        print(f"ok: {name}")
