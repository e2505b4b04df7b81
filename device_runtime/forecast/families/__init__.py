"""The model families, a module for each: how its graphs are run, and what its manifest must say."""
