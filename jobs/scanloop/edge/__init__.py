"""The device at a site: takes signed releases, checks itself, answers scans. Runs without torch, mmdet and a database."""
