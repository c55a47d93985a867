"""What claims of papers add: a verb, and a paragraph in the answer of the page."""

from bench.interfaces.extensions import Extension
from bench.interfaces.sections import Section

EXTENSION = Extension(
    verbs={"claim": "bench.features.claims.verb:ClaimVerb"},
    sections=[
        Section(
            "claim",
            "As published",
            "As published",
            "bench.features.claims.section:build",
            place="answer",
        )
    ],
)
