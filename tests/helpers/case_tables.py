"""Tables of texts with what is expected of each, as lines that a person can read."""


def cases(table: str) -> list[tuple[str, ...]]:
    """Return the cells of each line of a table, which stand on the two sides of ` → `."""
    return [tuple(line.split(" → ")) for line in table.strip("\n").splitlines()]
