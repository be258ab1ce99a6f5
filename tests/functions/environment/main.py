import os


def main(req, res):
    res.json({"process": dict(os.environ), "request": req.env, "headers": req.headers})
