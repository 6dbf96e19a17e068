"""The `ckpt` command: what jobs do and did, what they said, and whether this node can save them."""
