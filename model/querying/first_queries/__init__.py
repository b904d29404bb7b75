"""First queries, by name."""

from model.errors import UnknownName
from model.querying.first_queries.base import FirstQuery
from model.querying.first_queries.binned import Binned
from model.querying.first_queries.clusters import KMeans
from model.querying.first_queries.max_herding import MaxHerding
from model.querying.first_queries.order import Even, Top
from model.querying.first_queries.scan import ScanLinear
from model.querying.first_queries.typical import Typical
from model.querying.samplers.random import Random

FIRST_QUERIES: dict[str, FirstQuery] = {
    "even": Even(),
    "top": Top(),
    "random": Random(),
    "binned": Binned(5),
    "binned_2": Binned(2),
    "binned_10": Binned(10),
    "kmeans": KMeans(proportional=False),
    "kmeans_proportional": KMeans(proportional=True),
    "max_herding": MaxHerding(),
    "scan_linear": ScanLinear(),
    "typical": Typical(),
}


FORMER_NAMES = {"scan": "scan_linear"}  # in configurations of earlier releases


def first_query(name: str) -> FirstQuery:
    """Return the first query of that name, or former name; raise UnknownName with the choices."""
    name = FORMER_NAMES.get(name, name)
    if name not in FIRST_QUERIES:
        raise UnknownName("first query", name, FIRST_QUERIES)
    return FIRST_QUERIES[name]
