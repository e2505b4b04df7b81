"""The update agent: one poll of a signed repository, and what it reads it with."""
