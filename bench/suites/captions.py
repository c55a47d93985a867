"""Distinct captions to measure labelling with: WordNet's definitions, one in ten of which needs all of the cleaning."""

import random

from bench.labels.wordnet import lexicon

SHORTEST, LONGEST = 8, 40  # words
UNCLEAN_EVERY = 10


def distinct_captions(count: int) -> list[str]:
    """Return captions of 8 to 40 words, none twice; the same for the same count.

    A definition, one in two with another behind it, as a sentence or a title. Each tenth holds one of what captions of
    the web hold: tags, entities, URL quoting, mojibake, curly quotes, and what a tokeniser stumbles over.
    """
    generator = random.Random(0)
    lemmas = lexicon().lemmas
    captions: dict[str, None] = {}
    while len(captions) < count:
        words = []
        for label in generator.sample(range(len(lemmas)), generator.choice((1, 2))):
            words += [*lemmas[label].split("_"), *lexicon().gloss(label).split()]
        if SHORTEST <= len(words) <= LONGEST:
            if len(captions) % UNCLEAN_EVERY == 0:
                words = _unclean(words, generator)
            words[0] = words[0].capitalize()
            captions[" ".join(words) + generator.choice((".", "", ", photo", "!"))] = None
    return list(captions)


def _unclean(words: list[str], generator: random.Random) -> list[str]:
    """Make captions need cleaning and tokenising; they keep their number of words."""
    place = generator.randrange(1, len(words))
    word = words[place]
    words[place] = generator.choice(
        [
            f"<b>{word}</b>",
            f"{word}&#39;s",
            f"&quot;{word}&quot;",
            f"{word}&amp;{word}",
            f"{word}%20{word}",
            f"{word}+{word}",
            f"“{word}”",
            f"{word}’s",
            f"{word}—{word}",
            f"cafÃ©-{word}",
            f"{word}™",
            f"é{word}",
            f"{word}🐕",
            f"St. {word}",
            f"don't {word}",
            f"U.S. {word}",
            f"{word}...",
            f"'{word}'",
        ]
    )
    return words
