"""When to stop asking for labels: what another round would add, from what a project knows of its models."""

from model.stopping.outlook import Measured, Outlook, outlook

__all__ = ["Measured", "Outlook", "outlook"]
