"""Reading ``MAX,MIN``, the bounds of a worker's number of processes."""

from __future__ import annotations


def read_autoscale(text: str) -> tuple[int, int]:
    """Return the most and the fewest processes; the fewest are 1 where only one number is given.

    Raises: ValueError: the text says what is wrong.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError("must be MAX,MIN, such as 10,3")
    most, fewest = numbers[0], numbers[1] if len(numbers) == 2 else 1
    if not 1 <= fewest <= most:
        raise ValueError("must be MAX,MIN with 1 <= MIN <= MAX, such as 10,3")
    return most, fewest


def autoscale_problem(text: str | None) -> str | None:
    """Return what is wrong with a setting's value, or None."""
    if text is not None:
        try:
            read_autoscale(text)
        except ValueError as exc:
            return str(exc)
    return None
