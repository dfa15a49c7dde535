"""A ClearML server over HTTP for tests: it keeps tasks, events, models, projects, reports and files, checks every request with the schemas of the
SDK's own request classes, refuses what the real one refuses, and fails in every way on demand."""
