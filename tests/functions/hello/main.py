import os


def main(req, res):
    return res.json({"message": f"{os.environ['GREETING']}, {req.payload or 'world'}"})
