"""An imitation of the Permutive API: for people to try things out, for tests, for benches.

`app.Sandbox` is the server, `options.SandboxOptions` what it can be told, and `permutive-worker sandbox`
runs it. Everything but `app` is pure: no loop, no socket, no clock, no dice but a seed.

What it promises: the paths, shapes, status codes, error envelopes and limits that Permutive publishes. What
it adds, because one cannot be rude to the real API on purpose: rate limits, faults, and a ledger of what
really arrived. What it does not know: your workspace's event schemas, its tag allow-list and its
cohort queries; every tag and property is accepted, and membership of a cohort follows from the names of the
events alone.
"""
