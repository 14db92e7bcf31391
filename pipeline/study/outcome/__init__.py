"""What a study came to: the winner, tables, pictures, words."""
