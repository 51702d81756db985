"""What is told to a person must not steer the terminal: names of files come from whoever could make one."""


def printable(sentence: str) -> str:
    """Return one line of text without control characters, escape sequences or marks that turn the writing around."""
    if sentence.isprintable():
        return sentence
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in sentence)


def printable_lines(text: str) -> str:
    """Do as `printable`, where several sentences stand one below the other."""
    return "\n".join(map(printable, text.split("\n")))
