"""The `scanloop` command. Reads arguments and the environment once, maps errors to exit codes once."""
