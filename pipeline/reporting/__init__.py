"""Reports of runs, of studies, and of two runs against each other: one HTML file each."""
