"""The tables behind the charts of few labels."""

from collections.abc import Sequence

from reports.accuracy.label_curves import SHARE, Curve, numbers_of, written
from reports.accuracy.score_tables import NOT_TRAINED, subject_cell
from reports.render.formats import accuracy, count
from reports.render.frames import Comparison
from reports.render.tables import Cell, Column, Group, Table, absent, estimate_cell

NOT_SCORED = "not scored with so many labels"


def labels_table(comparison: Comparison, curves: Sequence[Curve]) -> Table:
    """Show all towers of one protocol on one task at each number of labels, references beneath."""
    first, numbers = curves[0], numbers_of(curves)
    columns = [Column("features", numeric=False), Column("images seen"), Column("seeds"), *number_columns(curves)]
    towers, references = (
        [
            [
                subject_cell(comparison, curve.subject),
                images_cell(curve.images),
                Cell(str(curve.seeds), "", curve.seeds),
                *(estimate_cell(curve.at(labels), accuracy, NOT_SCORED) for labels in numbers),
            ]
            for curve in curves
            if curve.is_reference == is_reference
        ]
        for is_reference in (False, True)
    )
    groups = [Group("Towers", towers), Group("References", references)]
    name = f"{first.task}: accuracy by {first.protocol} against the {first.along}"
    return Table(name, columns, [group for group in groups if group.rows])


def number_columns(curves: Sequence[Curve]) -> list[Column]:
    """Return a column for each number of labels; shares tell how many images they are."""
    pictures = {labels: number for curve in curves for labels, number in curve.pictures.items()}
    return [_number_column(curves[0].along, labels, pictures[labels]) for labels in numbers_of(curves)]


def _number_column(along: str, labels: float, pictures: int) -> Column:
    if along == SHARE:
        return Column(written(along, labels), f"{count(pictures)} images")
    return Column(written(along, labels), "of each class") if labels else Column("no labels", "as it begins")


def images_cell(images: int) -> Cell:
    """Return how many images were seen in pre-training."""
    return Cell(count(images), "", images) if images else absent(NOT_TRAINED)
