"""Chains that are killed: at each named point of the code in turn, and anywhere at random."""
