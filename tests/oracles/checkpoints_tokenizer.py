"""The tokenizer of the random checkpoints: bytes."""


def byte_characters():
    """GPT-2's printable characters for the 256 bytes."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in itself else chr(next(others)) for byte in range(256)]


def tokenizer():
    """Every byte is a token; a text begins with `<s>`."""
    special = [
        dict(id=256 + i, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for i, text in enumerate(["<s>", "</s>"])
    ]
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
    return dict(
        version="1.0",
        added_tokens=special,
        pre_tokenizer=byte_level,
        post_processor=dict(
            type="TemplateProcessing",
            single=[{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            pair=[{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            special_tokens={"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
        ),
        decoder=byte_level,
        model=dict(type="BPE", vocab={text: i for i, text in enumerate(byte_characters())}, merges=[]),
    )
