"""The model's prediction of published trainings, and the loss that they have. No torch here."""

from dataclasses import replace

from bench.experiment.published import MODELS, PUBLISHED_RUNS, PublishedRun
from bench.features.plan.collectives import LINK_US, NETWORK_US, ParameterCounts, data_sheet_interconnect
from bench.features.plan.model import Cluster, FlopsPerImage, PlanCase, compute_profile_from_flops, plan_step
from bench.interfaces.method import get_method

MODALITIES = 2  # whose features open_clip, NeMo and CoreNet gather, with gradient
RELEASED_PRODUCTS = 6  # matrix products of their loss, one step: two of logits, and two gradients of each
Latencies = tuple[float, float]  # seconds per ring step, within a node and between nodes
NCCL: Latencies = (1e-6 * LINK_US, 1e-6 * NETWORK_US)


def fit_utilisations(latencies: Latencies, overlap: float) -> list[float]:
    """Return what `fit_utilisation` returns for every published training."""
    return [fit_utilisation(run, latencies, overlap) for run in PUBLISHED_RUNS]


def fit_utilisation(run: PublishedRun, latencies: Latencies, overlap: float) -> float:
    """Return the utilisation, communication excluded, at which the model predicts a run's rate.

    Without a batch it includes communication. ValueError if communication alone takes longer than the step.
    """
    from scipy.optimize import brentq  # a tenth of a second of the start of `--help`

    def shortfall(utilisation: float) -> float:
        return run.midpoint - predict_published_rate(run, utilisation, latencies, overlap)[0]

    if shortfall(1.0) > 0:
        training = f"{run.model} on {run.gpus} GPUs ({run.source})"
        raise ValueError(f"the predicted communication of {training} exceeds its step: give smaller latencies")
    return float(brentq(shortfall, run.utilisation / 2, 1.0))


def predict_published_rate(
    run: PublishedRun, utilisation: float, latencies: Latencies, overlap: float
) -> tuple[float, float | None]:
    """Return the predicted images per second and GPU, and the share of communication if the batch is known."""
    model, device = MODELS[run.model], run.device
    work = FlopsPerImage(1e9 * model.gflops, is_recomputed=run.is_recomputed)
    compute = compute_profile_from_flops(work, device, utilisation, "autocast")  # open_clip's loss runs under autocast
    if run.batch is None or device.network_bytes_per_second is None:
        return 1 / (compute.forward + compute.backward), None
    weights = ParameterCounts("clip", round(1e6 * model.megaparameters), 0, 0, 0, 0, 1, model.width, 0)
    links = data_sheet_interconnect(device, *latencies)
    case = with_released_loss(PlanCase(run.model, weights, compute, float(run.batch)))
    step = plan_step(case, Cluster(links, overlap), run.gpus)
    return step.images_per_second / run.gpus, step.communication_share


def with_released_loss(case: PlanCase) -> PlanCase:
    """Return a case with the loss that the authors released, in place of ours, which gathers the captions alone.

    It gathers the features of both modalities, and computes both halves of the logits. Only CLIP's and SuperCLIP's
    differ from ours. Source: `gather_features` and `ClipLoss` of open_clip's src/open_clip/loss.py (89fb801), and
    CoreNet's corenet/loss_fn/multi_modal_img_text/contrastive_loss_clip.py (1aa3acd).
    """
    communication = get_method(case.weights.method).communication
    if communication is None or not communication.gathers_images_as_released:
        return case
    weights = replace(case.weights, feature_width=MODALITIES * case.weights.feature_width)
    loss_flops = case.compute.loss_flops * MODALITIES * communication.loss_products / RELEASED_PRODUCTS
    return replace(case, weights=weights, compute=replace(case.compute, loss_flops=loss_flops))
