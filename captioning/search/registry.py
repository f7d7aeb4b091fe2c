"""The searches that there are. Importing this is cheap: a search is loaded when it is used."""

from captioning.runtime.registry import Registry

DEFAULT = "greedy"

SEARCHES = Registry(
    "search",
    {
        "greedy": ("captioning.search.greedy:greedy", "the most likely word, each time"),
        "beam": ("captioning.search.beam:beam", "the most likely of the captions of a beam"),
        "sample": ("captioning.search.sampling:sample", "each word drawn by its probability"),
    },
)
