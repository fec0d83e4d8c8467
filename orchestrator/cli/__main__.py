"""`python -m orchestrator.cli`: the command where only the code is there, such as in a job's snapshot."""

from orchestrator.cli.app import main

if __name__ == "__main__":
    main()
