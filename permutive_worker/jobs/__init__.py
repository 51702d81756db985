"""What a line may say: one file a kind, each with its line format, its checks and the body it sends.

Add a kind: a struct on `line.Line` that satisfies `model.Job`, one line in `decode.py`, one path in
`request.py`.
"""
