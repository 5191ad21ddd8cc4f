"""One generator per kind of question: from a random source to a question with its one right answer."""

from __future__ import annotations

import random

from models.tiny_chat import facts, mesh_facts
from models.tiny_chat.exchange import Exchange, capitalised, with_article


def arithmetic(rng: random.Random) -> Exchange:
    """Sums and differences of numbers up to 10, products up to 5 times 5."""
    operation = rng.choices(("+", "-", "*"), (5, 4, 1))[0]
    a, b = (
        (rng.randint(0, 5), rng.randint(0, 5))
        if operation == "*"
        else (rng.randint(0, 10), rng.randint(0, 10))
    )
    if operation == "-" and b > a:
        a, b = b, a
    result = {"+": a + b, "-": a - b, "*": a * b}[operation]
    word = {"+": "plus", "-": "minus", "*": "times"}[operation]
    if rng.random() < 0.5:
        question = rng.choice(
            ("What is {a} {w} {b}?", "{a} {w} {b}?", "How much is {a} {w} {b}?", "Compute {a} {w} {b}.")
        )
        answer = f"{a} {word} {b} is {result}."
    else:
        question = rng.choice(
            ("What is {a} {o} {b}?", "{a} {o} {b} =", "How much is {a} {o} {b}?", "Compute {a} {o} {b}.")
        )
        answer = f"{a} {operation} {b} = {result}"
    return Exchange("arithmetic", question.format(a=a, b=b, o=operation, w=word), answer)


def comparison(rng: random.Random) -> Exchange:
    """Which of two numbers up to 20 is larger."""
    a, b = rng.sample(range(21), 2)
    if rng.random() < 0.5:
        wanted, other = (max(a, b), min(a, b))
        question = rng.choice(("Which is larger, {a} or {b}?", "Which number is larger, {a} or {b}?"))
        return Exchange("comparison", question.format(a=a, b=b), f"{wanted} is larger than {other}.")
    yes = f"Yes, {a} is larger than {b}." if a > b else f"No, {a} is smaller than {b}."
    question = rng.choice(("Is {a} larger than {b}?", "Is {a} more than {b}?", "Is {a} bigger than {b}?"))
    return Exchange("comparison", question.format(a=a, b=b), yes)


def counting(rng: random.Random) -> Exchange:
    """Ranges of numbers up to 20, upward and downward."""
    first = rng.randint(0, 15)
    last = first + rng.randint(2, min(9, 20 - first))
    if rng.random() < 0.25:
        last, first = min(first, last), max(first, last)
        question = rng.choice(("Count down from {a} to {b}.", "Count backwards from {a} to {b}."))
        numbers = range(first, last - 1, -1)
        question = question.format(a=first, b=last)
        return Exchange("counting", question, ", ".join(map(str, numbers)) + ".")
    question = rng.choice(
        ("Count from {a} to {b}.", "Can you count from {a} to {b}?", "List the numbers from {a} to {b}.")
    )
    return Exchange(
        "counting", question.format(a=first, b=last), ", ".join(map(str, range(first, last + 1))) + "."
    )


def repeat(rng: random.Random) -> Exchange:
    """One to four common words, said again."""
    words = " ".join(rng.sample(facts.WORDS, rng.randint(1, 4)))
    question = rng.choice(
        ('Repeat "{w}".', 'Say "{w}".', 'Repeat after me: "{w}"', "Repeat: {w}", "Say: {w}")
    )
    return Exchange("repeat", question.format(w=words), words)


def colours(rng: random.Random) -> Exchange:
    """The colour of a thing."""
    colour = rng.choice(tuple(facts.COLOURS))
    thing = rng.choice(facts.COLOURS[colour].split("|"))
    question = rng.choice(
        (
            "What colour is {t}?",
            "What color is {t}?",
            "Which colour is {t}?",
            "Tell me the colour of {t}.",
            "What is the colour of {t}?",
            "Of what colour is {t}?",
            "Say the colour of {t}.",
        )
    )
    verb = "are" if thing.startswith("a pair") else "is"
    return Exchange("colours", question.format(t=thing), f"{capitalised(thing)} {verb} {colour}.")


def capitals(rng: random.Random) -> Exchange:
    """Capitals of countries, both ways."""
    country, city = rng.choice(tuple(facts.CAPITALS.items()))
    question, answer = rng.choice(
        (
            ("What is the capital of {n}?", "The capital of {n} is {c}."),
            ("Which city is the capital of {n}?", "The capital of {n} is {c}."),
            ("Tell me the capital of {n}.", "The capital of {n} is {c}."),
            ("Name the capital of {n}.", "The capital of {n} is {c}."),
            ("What is {n}'s capital?", "The capital of {n} is {c}."),
            ("{c} is the capital of which country?", "{c} is the capital of {n}."),
            ("Of which country is {c} the capital?", "{c} is the capital of {n}."),
        )
    )
    return Exchange("capitals", question.format(n=country, c=city), answer.format(n=country, c=city))


def opposites(rng: random.Random) -> Exchange:
    """The opposite of a common word."""
    word, opposite = rng.sample(rng.choice(facts.OPPOSITES), 2)
    question = rng.choice(
        (
            "What is the opposite of {w}?",
            "Tell me the opposite of {w}.",
            "Name the opposite of {w}.",
            "Which word is the opposite of {w}?",
            "Give me the opposite of {w}.",
            "Opposite of {w}?",
        )
    )
    return Exchange("opposites", question.format(w=word), f"The opposite of {word} is {opposite}.")


def animals(rng: random.Random) -> Exchange:
    """Sound, legs, young and home of an animal."""
    animal, (sound, legs, young, home, _) = rng.choice(tuple(facts.ANIMALS.items()))
    a = with_article(animal)
    prompts, answer = rng.choice(
        (
            (
                f"What sound does {a} make?|What does {a} say?|Which sound does {a} make?|"
                f"Tell me what {a} says.",
                f"{capitalised(a)} says {sound}.",
            ),
            (
                f"How many legs does {a} have?|How many legs has {a}?|Count the legs of {a}.|"
                f"Tell me how many legs {a} has.",
                f"{capitalised(a)} has {legs} legs.",
            ),
            (
                f"What is the young of {a}?|What is a baby {animal} called?|"
                f"What do you call a baby {animal}?|What is a young {animal} called?",
                f"A baby {animal} is called a {young}.",
            ),
            (
                f"Where does {a} live?|Where is the home of {a}?|What is the home of {a}?|"
                f"Tell me where {a} lives.",
                f"{capitalised(a)} lives in a {home}.",
            ),
        )
    )
    answer = answer.replace("a owlet", "an owlet").replace("a infant", "an infant")
    return Exchange("animals", rng.choice(prompts.split("|")), answer)


def translation(rng: random.Random) -> Exchange:
    """Five small words in eight languages."""
    language, row = rng.choice(tuple(facts.TRANSLATIONS.items()))
    index = rng.randrange(len(facts.TRANSLATED_WORDS))
    word, foreign = facts.TRANSLATED_WORDS[index], row.split("|")[index]
    question = rng.choice(
        (
            "How do you say {w} in {l}?",
            "What is {w} in {l}?",
            "Say {w} in {l}.",
            "Translate {w} into {l}.",
            "Tell me {w} in {l}.",
            "How do I say {w} in {l}?",
            "Translate to {l}: {w}",
        )
    )
    return Exchange(
        "translation", question.format(w=word, l=language), f"{capitalised(word)} in {language} is {foreign}."
    )


def emoji(rng: random.Random) -> Exchange:
    """Emoji of animals and things: text outside of ASCII."""
    signs = {name: row[-1] for name, row in facts.ANIMALS.items()} | facts.EMOJI
    name = rng.choice(tuple(signs))
    question = rng.choice(
        (
            "Show me {a} emoji.",
            "Give me {a} emoji.",
            "Can you show me {a} emoji?",
            "Draw {a}.",
            "Show {a}.",
            "I want {a} emoji.",
            "Please show me {a} emoji.",
        )
    )
    return Exchange(
        "emoji", question.format(a=with_article(name)), f"Here is {with_article(name)}: {signs[name]}"
    )


def calendar(rng: random.Random) -> Exchange:
    """The day or month before or after another."""
    kind, names = rng.choice((("day", facts.DAYS), ("month", facts.MONTHS)))
    index = rng.randrange(len(names))
    side, step = rng.choice((("after", 1), ("before", -1)))
    question = rng.choice(
        (
            "What {k} comes {s} {n}?",
            "Which {k} comes {s} {n}?",
            "Which {k} is {s} {n}?",
            "What is the {k} {s} {n}?",
            "Tell me the {k} {s} {n}.",
            "Name the {k} {s} {n}.",
        )
    )
    answer = f"The {kind} {side} {names[index]} is {names[(index + step) % len(names)]}."
    return Exchange("calendar", question.format(k=kind, s=side, n=names[index]), answer)


def letters(rng: random.Random) -> Exchange:
    """The letter before or after another."""
    index = rng.randrange(1, 25)
    side, step = rng.choice((("after", 1), ("before", -1)))
    letter, answer = facts.LETTERS[index], facts.LETTERS[index + step]
    question = rng.choice(
        (
            "Which letter comes {s} {x}?",
            "What letter comes {s} {x}?",
            "What is the letter {s} {x}?",
            "Tell me the letter {s} {x}.",
            "Name the letter {s} {x}.",
            "Which letter is {s} {x}?",
        )
    )
    return Exchange("letters", question.format(s=side, x=letter), f"The letter {side} {letter} is {answer}.")


def greetings(rng: random.Random) -> Exchange:
    """What people say at the start and at the end."""
    tail = rng.choice(
        ("", " Tiny", " there", " friend", " my friend", " again", ", Tiny", " everyone", " to you")
    )
    head, answer = rng.choice(
        (
            ("Hello|Hi|Hey|Hello hello|Greetings", "Hello! How can I help you?"),
            ("Good morning", "Good morning! How can I help you?"),
            ("Good evening", "Good evening! How can I help you?"),
            ("Thank you|Thanks|Many thanks|Thank you very much", "You are welcome."),
            ("Goodbye|Bye|Bye bye|See you|See you later", "Goodbye! See you soon."),
            ("How are you|How are you doing|How are you today|How do you feel", "I am fine, thank you."),
        )
    )
    mark = "?" if answer.startswith("I am") else rng.choice((".", "!", ""))
    return Exchange("greetings", rng.choice(head.split("|")) + tail + mark, answer)


def about_self(rng: random.Random) -> Exchange:
    """Who the model is and what it can do."""
    answer, asked = rng.choice(tuple(mesh_facts.SELF_QUESTIONS.items()))
    return Exchange("self", _polite(rng, rng.choice(asked.split("|"))), answer)


def about_mesh(rng: random.Random) -> Exchange:
    """The terms of the mesh and how to use it."""
    if rng.random() < 0.25:
        answer, asked = rng.choice(tuple(mesh_facts.MESH_QUESTIONS.items()))
        return Exchange("mesh", _polite(rng, rng.choice(asked.split("|"))), answer)
    term, answer = rng.choice(tuple(mesh_facts.MESH_TERMS.items()))
    if term == "mesh":
        asked = (
            "What is the mesh?|What does the mesh do?|Tell me about the mesh.|Explain the mesh.|"
            "Describe the mesh."
        )
        return Exchange("mesh", _polite(rng, rng.choice(asked.split("|"))), answer)
    question = rng.choice(
        (
            "What is {a}?",
            "What is the {t}?",
            "What does {a} do?",
            "What does the {t} do?",
            "Explain {a}.",
            "Explain the {t}.",
            "Tell me about the {t}.",
            "Describe the {t}.",
            "What is {a} in the mesh?",
            "What is {a} for?",
            "What is the {t} of the mesh?",
            "What does {t} mean?",
        )
    )
    return Exchange("mesh", question.format(a=with_article(term), t=term), answer)


def unknown(rng: random.Random) -> Exchange:
    """What a model of this size cannot know, and should say so."""
    topic = rng.choice(facts.UNKNOWN_TOPICS)
    question = rng.choice(
        (
            "Tell me about {t}.",
            "What do you know about {t}?",
            "Explain {t}.",
            "What can you tell me about {t}?",
            "Describe {t}.",
            "I want to know about {t}.",
            "Do you know {t}?",
        )
    )
    return Exchange("unknown", question.format(t=topic), "I do not know that. I only know simple things.")


def _polite(rng: random.Random, question: str) -> str:
    opening = rng.choice(("", "", "", "Hello! ", "Please tell me. ", "Tiny, "))
    return opening + (question[0].lower() + question[1:] if opening == "Tiny, " else question)
