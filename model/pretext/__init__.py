"""Pretext tasks: ``registry`` names them, ``run`` trains them and extracts their losses.

Importing ``registry`` loads no torch: the web and the configuration read names from it.
"""
