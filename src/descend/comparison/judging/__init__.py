"""What a comparison concludes from its runs."""
