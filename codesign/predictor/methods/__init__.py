"""One file per way to predict score; each registers itself."""
