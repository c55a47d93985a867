"""What pages say of a method. Records and towers hold it, so that a page needs no extension to show them."""

import msgspec


class MethodDescription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A method's title, targets and loss as text."""

    title: str  # its name in its paper
    targets: str  # what it learns from
    loss: str
