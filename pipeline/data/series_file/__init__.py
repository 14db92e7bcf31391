"""A series in a user's file or DataFrame: times and their step, columns, holes, gaps."""
