"""Distinct captions to measure labelling with: WordNet's definitions, one in ten of which needs all of the cleaning."""

import random

from bench.labels.wordnet import lexicon

SHORTEST = 8  # words
LONGEST = 40
UNCLEAN_EVERY = 10
# What a word becomes, one at a time: tags, entities, URL quoting, mojibake, quotes, and what a tokeniser stumbles over.
UNCLEAN = (
    *(
        "<b>{0}</b>",
        "{0}&#39;s",
        "&quot;{0}&quot;",
        "{0}&amp;{0}",
        "{0}%20{0}",
        "{0}+{0}",
        "“{0}”",
        "{0}’s",
        "{0}—{0}",
    ),
    *("cafÃ©-{0}", "{0}™", "é{0}", "{0}🐕", "St. {0}", "don't {0}", "U.S. {0}", "{0}...", "'{0}'"),
)


def distinct_captions(count: int) -> list[str]:
    """Return captions of 8 to 40 words, none twice; the same for the same count.

    A definition, one in two with another behind it, as a sentence or a title. In each tenth one word is unclean.
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
                place = generator.randrange(1, len(words))
                words[place] = generator.choice(UNCLEAN).format(words[place])
            words[0] = words[0].capitalize()
            captions[" ".join(words) + generator.choice((".", "", ", photo", "!"))] = None
    return list(captions)
