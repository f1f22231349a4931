"""One file per way to predict accuracy; each registers itself."""
