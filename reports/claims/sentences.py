"""What a claim's card says: its sentences, the list of claims, and the commands whose records would decide one."""

from collections.abc import Sequence

from bench.console.console import PROGRAM
from bench.console.tables import Table
from bench.statistics import Interval
from reports.claims.card import REST, ClaimCard
from reports.render.formats import NBSP, format_interval, ratio


def claims_table(cards: Sequence[ClaimCard]) -> Table:
    """List the claims, each with its predictions, its measured pairs and its verdict."""
    rows = [
        {
            "claim": card.claim.name,
            "published": f"{card.claim.published:g} {card.claim.unit}",
            "FLOPs": _short_prediction(card),
            "measured": "; ".join(f"{name} {_write(card, found.effect)}" for name, _, found in card.measured) or "-",
            "verdict": card.judgement.text,
        }
        for card in cards
    ]
    return Table("Claims of papers", rows, f"One claim in full: {PROGRAM} claim NAME --records FOLDER --out FILE.html")


def summarize(card: ClaimCard) -> list[str]:
    """Say what was published, predicted and measured, one sentence each."""
    claim, prediction = card.claim, card.prediction
    sentences = [f"Published: {claim.published:g} {claim.unit}{describe_speed_ratio(card)}."]
    if claim.is_lower_bound:
        sentences = [f"Published: more than {claim.published:g} {claim.unit}; the paper gives no figure."]
    if claim.speed_ratio is not None or claim.metric == "zero-shot accuracy":
        sizes = ""
        if prediction.released_sizes != prediction.equal_sizes:
            sizes = f" at one image size and {ratio(prediction.released_sizes)} at the image sizes of each recipe"
        sentences.append(f"Counted FLOPs predict {ratio(prediction.equal_sizes)} times the baseline's images/s{sizes}.")
    if card.counted is not None:
        sentences.append(f"Counted here: {card.counted:.3f} {claim.unit}.")
    for name, _, found in card.measured:
        disturbed = " while other work disturbed it" if found.is_disturbed else ""
        measured = f"{_write(card, found.effect)}, {found.repetitions}, on {found.machine}{disturbed}"
        sentences.append(f"Measured, the {name} pair: {measured}.")
    if card.factors:
        sentences.append(f"A factor of {ratio(card.factors[-1].value)} is {REST}.")
    return sentences


def commands(card: ClaimCard) -> list[str]:
    """Return the command lines whose records would decide the claim."""
    claim = card.claim
    settings = "".join(f" --set {one}" for one in claim.settings)
    pairs = [pair for pair in (claim.experiments, claim.controlled) if pair is not None]
    if claim.metric in ("FLOPs", "zero-shot accuracy"):
        return [f"{PROGRAM} list"]
    if claim.metric == "accuracy":
        names = dict.fromkeys(name for pair in pairs for name in pair)
        protocols = dict.fromkeys(one.partition(",")[0] for one in claim.protocols)
        options = f"--task {claim.task} --root IMAGENET" + "".join(f" --protocol {one}" for one in protocols)
        lines = [
            f"{PROGRAM} train {name} --data SHARDS --set seed=N --out runs/{name}    # for five seeds N"
            for name in names
        ]
        lines += [f"{PROGRAM} transfer {name} --results runs/{name} {options}" for name in names]
        folders = " ".join(f"runs/{name}" for name in names)
        return [*lines, f"{PROGRAM} claim {claim.name} --records {folders} --out card.html"]
    memory = " --memory-gib GIB" if claim.metric == "largest batch" else ""
    lines = []
    for pair in pairs:
        allowed = "" if pair == claim.controlled else " --allow-differences"  # in more than the method
        lines.append(f"{PROGRAM} measure {' '.join(pair)}{allowed}{memory}{settings}")
    if claim.metric == "cost":
        baseline, experiment = claim.experiments
        lines.append(
            f"{PROGRAM} explain {experiment} --baseline {baseline} --factors kernel global_negatives{settings}"
        )
    return [*lines, f"{PROGRAM} claim {claim.name} --records results --out card.html"]


def to_sentence(text: str) -> str:
    """Begin a clause with a capital letter and end it."""
    return f"{text[:1].upper()}{text[1:]}."


def describe_speed_ratio(card: ClaimCard) -> str:
    """Return the ratio of speeds that a claim on cost means, as the end of a sentence; else nothing."""
    if card.claim.speed_ratio is None:
        return ""
    return f", which is {ratio(card.claim.speed_ratio)} times the baseline's images per GPU-hour"


def _short_prediction(card: ClaimCard) -> str:
    if card.counted is not None:
        return f"{card.counted:.3f} %"
    if card.claim.speed_ratio is None:
        return "-"
    both = dict.fromkeys(map(ratio, (card.prediction.equal_sizes, card.prediction.released_sizes)))
    return " to ".join(both)


def _write(card: ClaimCard, found: Interval) -> str:
    estimate = card.in_unit(found)
    return f"{ratio(estimate.value)}{NBSP}({format_interval(estimate, ratio) or 'no interval'})"
