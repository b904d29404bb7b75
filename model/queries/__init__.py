"""First queries, by name."""

from model.errors import UnknownName
from model.queries.base import FirstQuery
from model.queries.order import Even, Top
from model.samplers.random import Random

FIRST_QUERIES: dict[str, FirstQuery] = {
    "even": Even(),
    "top": Top(),
    "random": Random(),
}


def first_query(name: str) -> FirstQuery:
    """Return the first query of that name; raise UnknownName with the choices."""
    if name not in FIRST_QUERIES:
        raise UnknownName("first query", name, FIRST_QUERIES)
    return FIRST_QUERIES[name]
