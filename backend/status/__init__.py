"""The read side: status, predictions, forecasts and sentences for people."""
