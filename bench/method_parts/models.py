"""What a method puts around the tower, as an experiment asks for it."""

from bench.config import Experiment
from bench.environment.seeds import TEXT, seed_for
from bench.labels.subwords import SubwordIds
from bench.labels.vocabulary import read_vocabulary
from bench.towers.stored_features import stored_features
from bench.towers.trained import build_teacher
from models.heads import Classifier, Contrastive, ContrastiveClassifier, ImageSide, Student, TokenClassifier
from models.image_tower import ImageTower
from models.text_tower import TextTower, build_text_tower, text_width


def contrastive_pair(tower: ImageTower, experiment: Experiment, scale: float, bias: float | None) -> ImageSide:
    """Put a text tower beside it, or nothing where captions' features are read from memory."""
    if experiment.text_features == "stored":
        width = text_width(experiment.text_tower, experiment.context_length)
        return ImageSide(tower, width, initial_scale=scale, initial_bias=bias)
    return Contrastive(tower, _text_tower(experiment), initial_scale=scale, initial_bias=bias)


def synset_classifier(tower: ImageTower, experiment: Experiment) -> Classifier:
    """Put a row a synset of the vocabulary on top."""
    return Classifier(tower, _head_rows(experiment, len(read_vocabulary(experiment.synset_vocabulary).labels)))


def synsets(experiment: Experiment) -> tuple[str, ...]:
    """Return the synsets of the vocabulary, in the order of the classifier's rows."""
    return read_vocabulary(experiment.synset_vocabulary).keys


def token_classifier(tower: ImageTower, experiment: Experiment) -> TokenClassifier:
    """Put a row a subword on top, and count the images that have each."""
    return TokenClassifier(tower, _head_rows(experiment, SubwordIds(experiment.subword_vocabulary).size))


def pair_and_token_classifier(tower: ImageTower, experiment: Experiment, scale: float) -> ContrastiveClassifier:
    """Put a text tower beside it, and a row a subword on top."""
    rows = _head_rows(experiment, SubwordIds(experiment.subword_vocabulary).size)
    return ContrastiveClassifier(tower, _text_tower(experiment), rows, initial_scale=scale)


def student(tower: ImageTower, experiment: Experiment) -> Student:
    """Put a teacher beside it, or nothing where its features are stored."""
    if (stored := stored_features(experiment)) is not None:
        return Student(tower, None, stored.shape[1])
    teacher = build_teacher(experiment)
    return Student(tower, teacher, teacher.width)


def _text_tower(experiment: Experiment) -> TextTower:
    size, seed = SubwordIds(experiment.subword_vocabulary).size, seed_for(experiment.seed, TEXT)
    return build_text_tower(experiment.text_tower, experiment.context_length, size, seed)


def _head_rows(experiment: Experiment, labels: int) -> int:
    """Rows of the head: as many as the vocabulary has, or more where the experiment says so."""
    if experiment.head_rows is None:
        return labels
    if experiment.head_rows < labels:
        raise ValueError(f"{experiment.name}: head_rows is {experiment.head_rows}, its vocabulary has {labels} labels")
    return experiment.head_rows
