"""Where jobs go: each destination turns jobs into requests, and answers into verdicts. Pure, no I/O."""
