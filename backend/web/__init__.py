"""What answers HTTP. It reads the store and enqueues; it decides nothing."""
