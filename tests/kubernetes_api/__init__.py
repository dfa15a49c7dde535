"""A Kubernetes API over HTTP for tests: it keeps pods, Jobs, services and events, checks every manifest, and is a cluster's worst day on demand."""
