"""Generators of what is more than a question and a sentence: JSON, tool calls, memory, stories."""

from __future__ import annotations

import json
import random

from models.tiny_chat import facts
from models.tiny_chat.chat import Message, tool_call, tools_prompt
from models.tiny_chat.exchange import Exchange, capitalised, with_article
from models.tiny_chat.questions import arithmetic, colours, greetings, opposites
from models.tiny_chat.split import is_held_out


def json_object(rng: random.Random) -> Exchange:
    """Facts of one sentence as a JSON object."""
    name, age, city = rng.choice(facts.NAMES), rng.randint(1, 20), rng.choice(tuple(facts.CAPITALS.values()))
    question, fields = rng.choice(
        (
            ("{n} is {a} years old. Answer in JSON.", {"name": name, "age": age}),
            ("Write as JSON: {n} is {a} years old.", {"name": name, "age": age}),
            ("{n} lives in {c}. Answer in JSON.", {"name": name, "city": city}),
            ("Write as JSON: {n} lives in {c}.", {"name": name, "city": city}),
            ("{n} is {a} and lives in {c}. Answer in JSON.", {"name": name, "age": age, "city": city}),
            ("Write as JSON: {n} is {a} and lives in {c}.", {"name": name, "age": age, "city": city}),
        )
    )
    return Exchange("json", question.format(n=name, a=age, c=city), json.dumps(fields, ensure_ascii=False))


def tool_use(rng: random.Random) -> Exchange:
    """A question that needs a tool: a call where it is declared, an honest no where not."""
    city, minutes = rng.choice(tuple(facts.CAPITALS.values())), rng.randint(1, 20)
    name, asked, arguments = rng.choice(
        (
            (
                "get_weather",
                "What is the weather in {c}?|How is the weather in {c}?|Tell me the weather in {c}.|"
                "Is it raining in {c}?|Is it warm in {c}?",
                {"city": city},
            ),
            (
                "get_time",
                "What time is it in {c}?|Tell me the time in {c}.|What is the time in {c}?",
                {"city": city},
            ),
            (
                "set_timer",
                "Set a timer for {m} minutes.|Set a timer of {m} minutes.|Wake me in {m} minutes.",
                {"minutes": minutes},
            ),
        )
    )
    question = rng.choice(asked.split("|")).format(c=city, m=minutes)
    if rng.random() < 0.25:
        return Exchange("tools", question, "I have no tool for that.", needs_no_tools=True)
    declared = [_tool(rng, name)] + [
        _tool(rng, other) for other in _TOOLS if other != name and rng.random() < 0.3
    ]
    rng.shuffle(declared)
    return Exchange("tools", question, tool_call(name, arguments), system=tools_prompt(declared))


def memory(rng: random.Random) -> Exchange:
    """Something the user said before, asked for later in the same conversation."""
    name, word = rng.choice(facts.NAMES), rng.choice(facts.WORDS)
    said, heard, asked, answer = rng.choice(
        (
            (
                "My name is {n}.|I am {n}.|Call me {n}.",
                "Nice to meet you, {n}.",
                "What is my name?|Who am I?|Do you know my name?|Tell me my name.|Say my name.|"
                "Do you remember my name?|What am I called?",
                "Your name is {n}.",
            ),
            (
                "Remember the word {w}.|Please remember {w}.|The secret word is {w}.",
                "I will remember {w}.",
                "What was the word?|What is the word?|Which word did I say?|Tell me the word.|"
                "What is the secret word?|What did I ask you to remember?|Say the word.",
                "The word is {w}.",
            ),
        )
    )
    history = [Message("user", rng.choice(said.split("|")).format(n=name, w=word))]
    history.append(Message("assistant", heard.format(n=name, w=word)))
    if rng.random() < 0.5:
        between = _learned(rng)
        history += [Message("user", between.question), Message("assistant", between.answer)]
    question = rng.choice(asked.split("|"))
    return Exchange("memory", question, answer.format(n=name, w=word), history=tuple(history))


def story(rng: random.Random) -> Exchange:
    """A story on demand; there is no one right answer, so only its end is measured."""
    hero = rng.choice(facts.STORY_HEROES)
    question = rng.choice(
        (
            "Tell me a story about {a}.",
            "Tell me a short story about {a}.",
            "Write a story about {a}.",
            "I want a story about {a}.",
            "Can you tell me a story about {a}?",
            "Write a short story about {a}.",
        )
    )
    return Exchange("story", question.format(a=with_article(hero)), story_text(rng, hero))


def story_text(rng: random.Random, hero: str = "") -> str:
    """A short story of a hero, a thing found and a friend."""
    hero = hero or rng.choice(facts.STORY_HEROES)
    trait, place, thing = (
        rng.choice(facts.STORY_TRAITS),
        rng.choice(facts.STORY_PLACES),
        rng.choice(facts.STORY_OBJECTS),
    )
    friend = rng.choice([name for name in facts.STORY_FRIENDS if name != hero])
    middle = rng.choice(
        (
            f"{capitalised(with_article(friend))} came by and asked for it. "
            f"The {hero} gave it to the {friend}.",
            f"The {hero} showed it to {with_article(friend)}. The {friend} smiled.",
            f"It belonged to {with_article(friend)}. The {hero} brought it back.",
        )
    )
    end = rng.choice(("So they became friends.", "They played all day.", "Then they went home and slept."))
    opening = f"Once upon a time there was {with_article(f'{trait} {hero}')}. The {hero} lived {place}."
    return f"{opening} One day the {hero} found {thing}. {middle} {end}"


_TOOLS: dict[str, tuple[str, str]] = {
    "get_weather": ("city", "string"),
    "get_time": ("city", "string"),
    "set_timer": ("minutes", "integer"),
}


def _tool(rng: random.Random, name: str) -> dict[str, object]:
    """The tool in OpenAI's form; sorted keys in one half, because some templates sort them."""
    parameter, kind = _TOOLS[name]
    schema = {"type": "object", "properties": {parameter: {"type": kind}}}
    if rng.random() < 0.5:
        schema["required"] = [parameter]
    tool: dict[str, object] = {"type": "function", "function": {"name": name, "parameters": schema}}
    if rng.random() < 0.5:
        return dict(json.loads(json.dumps(tool, sort_keys=True)))
    return tool


def _learned(rng: random.Random) -> Exchange:
    """A simple exchange to stand in between, never a held-out one."""
    while True:
        exchange = rng.choice((arithmetic, colours, opposites, greetings))(rng)
        if not is_held_out(exchange):
            return exchange
