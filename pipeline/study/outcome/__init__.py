"""Results of a study: the winner, tables, pictures and summaries."""
