"""What a measured number was to be, and whether it is."""


def target(what: str, value: float | None, *, least: float | None = None, most: float | None = None) -> dict:
    """A number beside its target.

    Args:
        what: what was measured, with its unit.
        value: what it was; None where the system does not say.
        least: what it is to be at least; or
        most: what it is to be at most.

    Returns:
        All of these, and under 'met' whether the target is reached; None where nothing was measured.
    """
    assert (least is None) != (most is None)  # one of the two
    met = None
    if value is not None:
        met = value >= least if least is not None else most is not None and value <= most
    return dict(what=what, value=value, least=least, most=most, met=met)
