"""Predictions for each claim by FLOPs and the model of communication, as `predictions.json` holds them.

`python -m bench.features.claims.predictions` writes them. A test compares the file with the counter, so that commands
that show claims need no PyTorch.
"""

from collections.abc import Sequence

import msgspec

from bench.data.caption_lengths import WEB, caption_length_quantiles
from bench.environment.files import atomic_write
from bench.experiment.config import Experiment, change
from bench.features.claims.claims import PREDICTIONS, PaperClaim, PredictedRatios, read_claims
from bench.interfaces.extensions import load_extensions
from bench.interfaces.hooks import find_hook
from bench.measure.costs import forward_flops_as_released

DIGITS = 6  # of a written ratio
WEB_CAPTIONS = 10_000  # whose lengths stand for those of web captions


def predict_claim(claim: PaperClaim) -> PredictedRatios:
    """Return the ratios of images/s, experiment over baseline, that are predicted for a claim.

    FLOPs are those of the forward as released. Communication is that of the claim's GPUs at the utilisation that
    published trainings predict for the baseline: the ratio of GPU-seconds with it over the ratio without it.
    """
    pair = claim.experiments_of(claim.experiments)
    at_one_size = [change(one, image_sizes=()) for one in pair]
    return PredictedRatios(
        equal_sizes=_flop_ratio(at_one_size),
        unpadded_equal_sizes=_flop_ratio(at_one_size, caption_length_quantiles(WEB, WEB_CAPTIONS, len)),
        released_sizes=_flop_ratio(pair),
        communication=_communication(claim, pair),
    )


def _flop_ratio(pair: Sequence[Experiment], caption_lengths: Sequence[int] = ()) -> float:
    baseline, experiment = (forward_flops_as_released(one, caption_lengths) for one in pair)
    return round(baseline / experiment, DIGITS)


def _communication(claim: PaperClaim, pair: tuple[Experiment, Experiment]) -> tuple[float, float] | None:
    if claim.gpu is None or claim.gpus is None:
        return None
    if (predict := find_hook("communication_range")) is None:
        raise ValueError("the communication of claims is predicted by the feature plan, which is not here")
    least, largest = predict(pair, claim.gpus, claim.gpu)
    return round(least, DIGITS), round(largest, DIGITS)


def main() -> None:
    """Write the predictions for every claim."""
    load_extensions()
    found = {name: predict_claim(claim) for name, claim in read_claims().items()}
    with atomic_write(PREDICTIONS) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


if __name__ == "__main__":
    main()
