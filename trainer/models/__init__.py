"""The networks; they never import the loop, the run or the build."""
