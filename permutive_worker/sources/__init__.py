"""Where lines come from: files, standard input, or Python objects.

formats      bytes → text → lines; pure
reader       one descriptor, read in a thread, one block ahead
files        paths, globs and directories, to their ends
follow       files that grow and are rotated
stdin        a pipe, a terminal or a redirected file
memory       the jobs of a program that embeds the worker
replay       dead letters
queue        what all queues have in common; each broker's own file only talks to its broker

What files remember from run to run, from the disk upwards:

record       the lines of a checkpoint, and their checksums
identity     whether a file is still the one a checkpoint speaks of
checkpoint   its file: locked, appended to, replaced
tracked      one input under way, and the store of all checkpoints
remembered   the inputs of a run; what the clock saves
"""
