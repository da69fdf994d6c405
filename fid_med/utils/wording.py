"""Parts of messages that several modules word alike."""

from collections.abc import Sequence

_NAMED = 3


def name_some(items: Sequence[str], count: int | None = None) -> str:
    """Lists the first three items, and says how many more there are: `a, b, c and 12 more`.

    Args:
      items: texts to list.
      count: number of all of them, where `items` holds only some; by default its length.
    """
    shown = list(items)[:_NAMED]
    more = (len(items) if count is None else count) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
