"""The methods of the tables, one file each; they never import the loop, the run or the build."""
