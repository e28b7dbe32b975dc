"""What a validation leaves for people to look at: tables, files and pictures."""
