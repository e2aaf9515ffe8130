"""Many runs from one table: what is to run, workers that run it, and the table of their results."""
