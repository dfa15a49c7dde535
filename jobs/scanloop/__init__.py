"""The work of Scanloop: everything a job does, with no scheduler in it."""

__version__ = "0.1.0"
