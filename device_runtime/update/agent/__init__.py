"""The update agent: one poll of a signed repository."""
