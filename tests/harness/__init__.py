"""A whole deployment that tests may break: worlds that can be saved and restored, processes that are really killed, and what must hold after."""
