"""Texts for people: counts with their nouns, and what could steer a terminal written out."""


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun, `1 house` or `1,234 houses`; `many` where another s is not enough."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def visible(text: str, keep: str = "\n") -> str:
    """A text with all that could steer a terminal written out: names, errors and paths may come from anybody."""
    # Nearly always there is nothing to do, and that is quickly seen.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
