"""How a process tree is saved and restored."""
