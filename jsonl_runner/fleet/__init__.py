"""Settings to an engine: threads of this process, or workers on a cluster."""
