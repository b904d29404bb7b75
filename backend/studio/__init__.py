"""The only package that calls Label Studio: tokens, tasks, predictions, downloads, address rules."""
