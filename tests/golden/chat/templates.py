#!/usr/bin/env python3
"""Writes cases.json: chats, and what Python's Jinja makes of them with the templates beside this script, with the
settings of transformers' apply_chat_template.

    pip install jinja2
    python3 tests/golden/chat/templates.py [MORE.jinja...]

smollm2.jinja is the template of SmolLM2 (Hugging Face, Apache-2.0). The others are of this repository; each has the
constructs of a family's template: header.jinja of Llama 3, tools.jinja of Qwen2.5, thinking.jinja of Qwen3, loops.jinja of
DeepSeek-V3, strict.jinja of Mistral. With more templates, prints what the comparison with them needs, and writes nothing.
"""

import json
import os
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

folder = os.path.dirname(os.path.abspath(__file__))
tool = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'The "weather" of a city \u00e4',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "days": 3},
    },
}


def says(*contents, system=None):
    roles = ["user", "assistant"]
    messages = [] if system is None else [{"role": "system", "content": system}]
    return messages + [{"role": roles[i % 2], "content": each} for i, each in enumerate(contents)]


chats = [
    (says("Hello"), {}),
    (says("Hello", "Hi there.", "How are you?"), {}),
    (says("  two\n lines \u00e9 ", system=" Be brief. "), {}),
    (says("a", "<think>\nWhy?\n</think>\n\nb", "c"), {}),
    (says("a", "b", system="s"), {"add_generation_prompt": False}),
    (says("What is it like in Bonn?"), {"tools": [tool]}),
    (says("What is it like in Bonn?", system="s"), {"tools": [tool, tool], "enable_thinking": False}),
    (says(), {}),
    ([{"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}], {}),
    (says("a"), {"enable_thinking": True, "add_generation_prompt": False}),
    ([{"role": "user", "content": "a"}, {"role": "tool", "content": "x"}, {"role": "tool", "content": "y"}], {}),
]


def render(source, messages, more):
    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    def to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    names = {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", **more}
    try:
        return environment.from_string(source).render(messages=messages, **names)
    except jinja2.exceptions.TemplateError:
        return None


def cases_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        source = file.read()
    name = os.path.splitext(os.path.basename(path))[0]
    return [
        {"template": name, "messages": messages, "more": more, "text": render(source, messages, more)}
        for messages, more in chats
    ]


def main():
    own = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".jinja")]
    cases = [case for path in sys.argv[1:] or own for case in cases_of(path)]
    if sys.argv[1:]:
        print(json.dumps(cases))
        return
    with open(os.path.join(folder, "cases.json"), "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")


main()
