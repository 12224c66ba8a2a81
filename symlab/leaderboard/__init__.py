"""Public runs of optimizers on one problem, read from their logs and analysed again.

The modded-nanogpt optimization benchmark (github.com/KellerJordan/modded-nanogpt,
records/track_3_optimization) fixes data, batch size and architecture of a GPT of 124
million parameters, and counts the steps to a validation loss of 3.28 nats. Its
submissions come with the logs of their runs.

  logs      the evaluations that a log file holds
  source    the logs from a folder, or downloaded; their digest
  entries   which runs belong to which submission, and what each changes
  judging   statistics of runs, submissions and pairs of submissions
"""
