"""How good a model is, how honest its confidence, and what more labels would add."""
