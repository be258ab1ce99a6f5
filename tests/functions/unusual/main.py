"""Handlers that aren't simple functions."""

import functools


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@logged
def decorated(req, res):
    res.send("decorated")


@logged
def plain(x: int):
    return x


class Callable:
    def __call__(self, req, res):
        res.send("callable")


instance = Callable()
partial = functools.partial(lambda prefix, req, res: res.send(prefix), "partial")


def unused(_req, _res):
    _res.send("unused")
