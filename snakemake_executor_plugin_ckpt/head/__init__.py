"""What the executor is made of: the head's view of Snakemake's jobs and of their chains."""
