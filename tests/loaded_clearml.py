"""Imported once by the server that killed processes are forked from: ClearML's SDK with its configuration read, which takes a second."""

from clearml.config import ConfigWrapper

ConfigWrapper._init()
