"""The conditions that records must meet to decide a claim, each as a sentence and a check."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.environment.gpu_specs import find_gpu_spec
from bench.experiment.fields import PACK_DATA
from bench.features.claims.evidence import Evidence, scores_of, subject_of
from bench.records.record import AuthorsRun, Speed
from bench.tables.formats import format_percent

MAX_DATA_WAIT_SHARE = 0.05  # of the windows' time
ACCURACY_TOLERANCE = 1.0  # points
IMAGENET = "imagenet, fine-tune"  # task and protocol
A100 = "A100"
CORENET = "apple/corenet"
CORENET_COMMIT = "1aa3acd17b7b02ba51889b648b1182845c4323eb"
# SHA-256 of the released files at this commit.
CORENET_FILES: Mapping[str, str] = {
    "projects/clip/clip_vit_base.yaml": "2789849b62f08f466936e4c4a9cf3fffbdd352af270c503520983cdf1427d20d",
    "projects/catlip/pretraining/vit_base.yaml": "821bf072d91007e2c22b1c2b44ceb29879d6d7a5952594ddfc6baf29eb58250c",
    "projects/range_augment/clip/clip_vit_huge.yaml": (
        "eece1351690528c41f13cdac56c0dd9c3ac55a0f027b593932771341d7ccd05c"
    ),
    "projects/catlip/pretraining/vit_huge.yaml": "5d6fe8229181c80af4528cd8993111ab81343df8076b448cd46bb7845ba1969d",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on the evidence of a claim."""

    describe: str  # one sentence: what is required
    check: Callable[[Evidence], list[str]]  # what is unmet, in words; empty: the condition is met


def unmet_by(conditions: tuple[Condition, ...], evidence: Evidence) -> list[str]:
    """Return what evidence misses of conditions, each text once."""
    unmet = [text for condition in conditions for text in condition.check(evidence)]
    return list(dict.fromkeys(unmet))


def released_files(baseline: str, experiment: str) -> Condition:
    """Require the baseline's runs to read one released file of CoreNet, and the other runs another."""

    def check(evidence: Evidence) -> list[str]:
        unmet = []
        for file, records in ((baseline, evidence.baseline), (experiment, evidence.experiment)):
            for record in records:
                run = record.measured
                if isinstance(run, AuthorsRun) and (run.file, run.file_sha256) != (
                    file,
                    CORENET_FILES[file],
                ):
                    unmet.append(
                        f"file: {run.file} with SHA-256 {run.file_sha256[:12]}, needed {file} as released"
                    )
        return unmet

    return Condition(
        f"CLIP's runs read {baseline} and CatLIP's runs {experiment}, each with the SHA-256 that the file has at "
        f"{CORENET_COMMIT[:7]}.",
        check,
    )


def _check_code(evidence: Evidence) -> list[str]:
    unmet = []
    for record in evidence.records:
        run = record.measured
        if not isinstance(run, AuthorsRun):
            unmet.append(f"code: this project's, needed {CORENET}")
        elif (run.repository, run.commit) != (CORENET, CORENET_COMMIT):
            unmet.append(
                f"code: {run.repository} at {run.commit}, needed {CORENET} at {CORENET_COMMIT}"
            )
    return unmet


def _check_keys(evidence: Evidence) -> list[str]:
    runs = [record.measured for record in evidence.records]
    return [
        f"{key}: {text}"
        for run in runs
        if isinstance(run, AuthorsRun)
        for key, text in run.changed.items()
    ]


def _check_gpu(evidence: Evidence) -> list[str]:
    unmet = []
    for record in evidence.records:
        where = record.circumstances
        spec = find_gpu_spec(where.machine)
        if where.device != "cuda":
            unmet.append(f"GPU: none, needed {A100}")
        elif spec is None or A100 not in spec.name_words.split():
            unmet.append(f"GPU: {where.machine.partition(';')[0]}, needed {A100}")
        elif where.processes != 1:
            unmet.append(f"processes: {where.processes}, needed 1")
    return unmet


def _check_images(evidence: Evidence) -> list[str]:
    experiments = [record.experiment for record in evidence.records]
    if any(experiment is None or experiment.input.data == PACK_DATA for experiment in experiments):
        return ["images: of the shipped pack, needed files of a data set"]
    return []


def _check_data_wait(evidence: Evidence) -> list[str]:
    unmet = []
    for record in evidence.records:
        run = record.measured
        share = run.data_wait_share if isinstance(run, AuthorsRun | Speed) else None
        if share is None:
            unmet.append("waiting for data: not measured")
        elif share > MAX_DATA_WAIT_SHARE:
            limit = f"needed at most {format_percent(MAX_DATA_WAIT_SHARE, 0)}"
            unmet.append(
                f"waiting for data: {format_percent(share, 1)} of the windows' time, {limit}"
            )
    return unmet


def _check_throttling(evidence: Evidence) -> list[str]:
    unmet = []
    for record in evidence.records:
        run = record.measured
        percent = run.throttled_percent if isinstance(run, AuthorsRun) else None
        if percent is None:
            unmet.append("slowdown of the GPU by heat or hardware: not read")
        elif percent > 0:
            unmet.append(
                f"slowdown of the GPU by heat or hardware: in {percent:.2g} % of the readings, needed none"
            )
    return unmet


def _check_verdict_of_ratio(evidence: Evidence) -> list[str]:
    if evidence.ratio is None or evidence.ratio.verdict not in (
        "faster",
        "slower",
        "no difference",
    ):
        return ["ratio of images/s: inconclusive by the rule for measured speeds"]
    return []


def towers_named(baseline: str, experiment: str) -> Condition:
    """Require towers of these file names."""

    def check(evidence: Evidence) -> list[str]:
        names = [subject_of(record) for record in evidence.records]
        return [] if names == [baseline, experiment] else [f"towers: {' and '.join(names)}"]

    return Condition(
        f"The scored towers are named {baseline} and {experiment}. The names do not prove what is in the files: "
        "CatLIP's pre-trained tower and its fine-tuned one have the same name.",
        check,
    )


def on_task(scored: str, num_classes: int, num_train: int, num_test: int) -> Condition:
    """Require scores on a task of a known size."""

    def check(evidence: Evidence) -> list[str]:
        expected = (num_classes, num_train, num_test)
        unmet = []
        for record in evidence.records:
            for score in scores_of(record, scored):
                sizes = (score.num_classes, score.num_train, len(score.correct))
                if sizes != expected:
                    unmet.append(
                        f"classes, training and test images of the task: {sizes}, needed {expected}"
                    )
        return unmet

    return Condition(
        f"The task has {num_classes:,} classes, {num_train:,} training images and {num_test:,} test images.",
        check,
    )


def baseline_accuracy(scored: str, percent: float, margin: float) -> Condition:
    """Require the baseline to reach its published accuracy, in percent, within a margin in points."""

    def check(evidence: Evidence) -> list[str]:
        accuracies = [
            100 * score.accuracy
            for record in evidence.baseline
            for score in scores_of(record, scored)
        ]
        far = [value for value in accuracies if abs(value - percent) > margin]
        return [f"the baseline's accuracy: {value:.1f} %, needed {percent} %" for value in far]

    return Condition(
        f"The baseline reaches its published {percent} % within {margin:g} point.", check
    )


AUTHORS_STEP = (
    Condition(
        f"The authors' code was timed: a checkout of {CORENET} at {CORENET_COMMIT} without changes.",
        _check_code,
    ),
    Condition("No key of the released files was changed.", _check_keys),
    Condition(f"The runs had one whole {A100}.", _check_gpu),
    Condition(
        "The images are those of a data set's files (`--data`), not of the shipped pack. Whether the files were in the "
        "page cache is not recorded.",
        _check_images,
    ),
    Condition(
        f"In every run the loop waited for batches in at most {format_percent(MAX_DATA_WAIT_SHARE, 0)} of the windows' "
        "time.",
        _check_data_wait,
    ),
    Condition(
        "In every run NVML was read, and no reading says that heat or a hardware protection slowed the GPU.",
        _check_throttling,
    ),
    Condition(
        'The verdict on the ratio (docs/measuring.md, "Intervals and verdicts") is faster, slower or no difference.',
        _check_verdict_of_ratio,
    ),
)
CONDITIONS: Mapping[str, tuple[Condition, ...]] = {  # by the names of claims
    "catlip-2.7x": (
        *AUTHORS_STEP,
        released_files(
            "projects/clip/clip_vit_base.yaml", "projects/catlip/pretraining/vit_base.yaml"
        ),
    ),
    "catlip-h16": (
        *AUTHORS_STEP,
        released_files(
            "projects/range_augment/clip/clip_vit_huge.yaml",
            "projects/catlip/pretraining/vit_huge.yaml",
        ),
    ),
    "catlip-accuracy": (
        towers_named("clip_vit_base.pt", "vit_base.pt"),
        on_task(IMAGENET, 1000, 1_281_167, 50_000),
        baseline_accuracy(IMAGENET, 84.4, ACCURACY_TOLERANCE),
    ),
}
