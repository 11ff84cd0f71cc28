"""The process that keeps a cloud's daemons running. It knows nothing of what they do."""
