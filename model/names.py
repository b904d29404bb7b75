"""The names that a project's configuration may use, for those who must not load PyTorch to check one.

Each registry's keys equal these tuples; ``tests/model/test_names.py`` holds it.
"""

PRETEXT_TASKS = ("rotation", "colorization", "jigsaw", "simsiam", "simclr", "barlow_twins", "inpainting", "vae")
NETWORKS = ("auto", "compact", "resnet18")
INITS = ("pretext", "scratch", "pretrained")
RECIPES = ("auto", "paper")
JOINTS = ("none", "barlow_twins")

SMALLEST_SIDES = {"jigsaw": 12}  # pixels, of the pretext tasks that not every size of image serves
