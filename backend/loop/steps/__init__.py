"""The steps, by subject. Each may run twice, and be killed anywhere, without harm."""
