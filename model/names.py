"""The names that a project's configuration may use, for those who must not load PyTorch to check one.

Each registry's keys equal these tuples; ``tests/model/test_names.py`` holds it.
"""

PRETEXT_TASKS = ("rotation",)
NETWORKS = ("auto", "compact", "resnet18")
INITS = ("pretext", "scratch", "pretrained")
RECIPES = ("auto", "paper")
