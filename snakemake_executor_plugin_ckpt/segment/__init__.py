"""What runs on the compute node. Nothing here imports Snakemake."""
