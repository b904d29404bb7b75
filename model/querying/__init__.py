"""What a round asks: batches, first queries, samplers, and the plan of a round."""
