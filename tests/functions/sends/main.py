"""Answers with the payload, at the status the payload begins with: ``404 not here``."""


def main(req, res):
    status, _, text = req.payload.partition(" ")
    res.send("the last call wins")
    return res.send(text, int(status))
