"""What a comparison tells: tables, JSON, HTML."""
