"""Where lines come from: files, standard input, or Python objects.

formats   bytes → text → lines; pure
reader    one descriptor, read in a thread, one block ahead
files     paths, globs and directories
stdin     a pipe, a terminal or a redirected file
memory    the jobs of a program that embeds the worker
queue     what all queues have in common; each broker's own file only talks to its broker
"""
