"""A structure-aware fuzzer of whatever reads bytes from outside: seeds, mutators for each format, and what must hold of every answer."""
