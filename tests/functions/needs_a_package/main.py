import six


def main(req, res):
    res.send(six.__version__)
