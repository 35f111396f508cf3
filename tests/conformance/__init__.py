"""Two harnesses that hold every file to its simulation: operations one by one, random networks."""
