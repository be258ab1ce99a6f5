"""Answers with what it was told of the event that triggered it."""

PREFIX = "APPWRITE_FUNCTION_"


def main(req, res):
    told = {name.removeprefix(PREFIX): value for name, value in req.env.items() if name.startswith(PREFIX)}
    res.json({"payload": req.payload, **told})
