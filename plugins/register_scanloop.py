"""Registers the Scanloop plugin with Airflow."""

from scanloop_plugin.plugin import ScanloopPlugin

__all__ = ["ScanloopPlugin"]
