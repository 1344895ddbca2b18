"""What the report calls and nobody else."""
