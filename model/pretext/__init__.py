"""Pretext tasks by name, their training and the extraction of their losses."""

from model.pretext.registry import PRETEXT_TASKS, pretext_task
from model.pretext.run import PretextSummary, extract_embeddings, extract_losses, train_pretext

__all__ = ["PRETEXT_TASKS", "PretextSummary", "extract_embeddings", "extract_losses", "pretext_task", "train_pretext"]
