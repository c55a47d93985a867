"""What claims of papers add: a verb, and a paragraph in the answer of the page."""

from bench.interfaces.extensions import Extension
from bench.interfaces.sections import PageSection
from bench.interfaces.verb import LazyVerb

EXTENSION = Extension(
    verbs=[
        LazyVerb(
            "claim",
            "List claims of papers with their verdicts from records, or show one claim.",
            "bench.features.claims.verb:ShowClaims",
        ),
    ],
    sections=[
        PageSection(
            "claim",
            "As published",
            "As published",
            "bench.features.claims.section:build_claim_paragraph",
            place="answer",
        )
    ],
)
