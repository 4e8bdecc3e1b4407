"""JSON as a file from a stranger may hold it: read strictly, or refused."""

import json
import math
from typing import Any


class FileFormatError(ValueError):
    """A file is damaged, hostile, or not what it should be; nothing of it has been used."""


def parse(text: bytes, name: str) -> Any:
    """The value of a JSON text in UTF-8.

    Args:
        text: the text.
        name: what the error message calls it.

    Returns:
        Dicts, lists, strings, finite numbers, booleans and None.

    Raises:
        FileFormatError: no JSON, a key twice in one object, a number that is not finite, or nesting
            too deep to be read.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise FileFormatError(f"{name} has the key {key[:80]!r} twice in one object.")
            seen[key] = value
        return seen

    def finite(digits: str) -> float:
        if not math.isfinite(number := float(digits)):
            raise FileFormatError(f"{name} has {digits[:80]} where a finite number is expected.")
        return number

    try:
        return json.loads(
            text.decode(), object_pairs_hook=unique, parse_constant=finite, parse_float=finite
        )
    except FileFormatError:
        raise
    except RecursionError:
        raise FileFormatError(f"{name} is nested too deeply.") from None
    except ValueError as e:  # no JSON, no UTF-8, or an integer of thousands of digits
        raise FileFormatError(f"{name} is not JSON: {e}") from None
