"""Images: a saved tree, its outputs' snapshot and a manifest, one folder a generation."""
