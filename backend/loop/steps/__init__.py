"""The steps, by subject. Each may run twice and may be killed at any point without harm."""
