"""Images on disk and in memory: the bank, decoding, augmentation."""
